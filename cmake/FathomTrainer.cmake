# The trainer: src/train/torch/ on libtorch, as a program of its own (fathom-train, which `fathom train` starts), so that
# the engine never loads libtorch's half gigabyte of libraries. Optional: without libtorch everything else builds and
# the trainer's tests do not exist, which is said here and by ./test.
#
# libtorch is Debian's libtorch-dev, or a newer one named by CMAKE_PREFIX_PATH or Torch_DIR.
option(FATHOM_NCCL "Ranks of `fathom train` on GPUs join through NCCL: needs a libtorch with CUDA, and nccl.h" OFF)

set(FATHOM_TRAINER_BUILT OFF)
if(NOT FATHOM_TRAIN STREQUAL "OFF" AND NOT FATHOM_SANITIZE AND NOT FATHOM_FUZZ)
  if(FATHOM_TRAIN STREQUAL "ON")
    find_package(Torch REQUIRED)
  else()
    find_package(Torch QUIET)
  endif()
  if(NOT TORCH_FOUND)
    message(STATUS "fathom: libtorch not found; the trainer is left out (install the packages of tools/packages-train.txt)")
  endif()
endif()

# c10d's NCCL group is in libtorch's CUDA half; only its headers ask for NCCL's own, which libtorch does not bring.
if(FATHOM_NCCL)
  if(NOT TORCH_FOUND OR NOT TARGET torch_cuda)
    message(FATAL_ERROR "FATHOM_NCCL=ON needs a libtorch with CUDA; name one by CMAKE_PREFIX_PATH, or leave FATHOM_NCCL off")
  endif()
  find_path(FATHOM_NCCL_INCLUDE nccl.h HINTS ENV NCCL_HOME PATH_SUFFIXES include)
  if(NOT FATHOM_NCCL_INCLUDE)
    message(FATAL_ERROR "FATHOM_NCCL=ON needs nccl.h; install NCCL's headers or name their folder by FATHOM_NCCL_INCLUDE")
  endif()
endif()

if(TORCH_FOUND)
  file(GLOB trainer_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/train/torch/*.cc)
  set(trainer_tests ${trainer_sources})
  list(FILTER trainer_tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER trainer_sources EXCLUDE REGEX "_test\\.cc$")
  if(trainer_sources)
    set(FATHOM_TRAINER_BUILT ON)
    add_library(fathom_trainer STATIC ${trainer_sources})
    # Training has no bit-exact twin to agree with, so its loops may fuse multiply and add, and reorder marked sums.
    set_source_files_properties(${CMAKE_SOURCE_DIR}/src/train/torch/cpu_kernels.cc PROPERTIES COMPILE_OPTIONS
                                "-O3;-ffp-contract=fast;-fopenmp-simd")
    target_link_libraries(fathom_trainer PUBLIC fathom_train fathom_engine ${TORCH_LIBRARIES})
    target_include_directories(fathom_trainer SYSTEM PUBLIC ${TORCH_INCLUDE_DIRS})
    # libtorch's headers are not written for our warnings.
    target_compile_options(fathom_trainer PUBLIC -Wno-unused-parameter -Wno-deprecated-declarations -Wno-sign-compare
                           -Wno-extra -Wno-redundant-move -Wno-deprecated-enum-enum-conversion)
    if(FATHOM_NCCL)
      target_compile_definitions(fathom_trainer PRIVATE FATHOM_NCCL=1)
      target_include_directories(fathom_trainer SYSTEM PRIVATE ${FATHOM_NCCL_INCLUDE})
    endif()
    # Its command line stands in cli/, above every room; the files that need libtorch's half are compiled here.
    add_executable(fathom-train src/cli/main/fathom_train_main.cc src/cli/main/train_progress.cc)
    target_link_libraries(fathom-train PRIVATE fathom_cli fathom_trainer ${CMAKE_DL_LIBS})
    set_target_properties(fathom-train PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
    if(FATHOM_TESTS AND trainer_tests)
      add_executable(trainer_test ${trainer_tests})
      target_link_libraries(trainer_test PRIVATE fathom_trainer GTest::gmock GTest::gtest_main)
      add_test(NAME trainer COMMAND trainer_test --gtest_brief=1)
      set_tests_properties(trainer PROPERTIES TIMEOUT 1800)
    endif()
  endif()
endif()
