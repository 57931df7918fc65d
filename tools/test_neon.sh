#!/bin/sh
# Builds the tests of the kernels that run on NEON for aarch64 (matrix products of our own code; attention, rows of keys
# and values, and vectors through Highway) and runs them under user-mode emulation, once with the int8 dot product and
# once on a processor without it. Emulated numbers say nothing about speed.
# Needs: g++-aarch64-linux-gnu qemu-user-static googletest (its sources) libfmt-dev.
set -eu
cd "$(dirname "$0")/.."
out=build/neon
mkdir -p "$out/include" "$out/obj"
# Headers that are the same on every architecture, without the rest of /usr/include.
for dir in fmt spdlog hwy; do ln -sfn "/usr/include/$dir" "$out/include/$dir"; done
gtest=/usr/src/googletest/googletest
flags="-std=c++23 -O2 -Wall -Wextra -Wno-psabi -fno-math-errno -ffp-contract=off -DFMT_HEADER_ONLY -DHWY_COMPILE_ONLY_STATIC
  -Isrc -I$out/include -I$gtest/include"
objects=""
for source in src/base/thread_pool.cc src/base/aligned_buffer.cc src/base/cpu_features.cc src/tensor/dtype.cc \
  src/kernels/dequant.cc src/kernels/dequant_k.cc src/kernels/dequant_simple.cc src/kernels/matmul.cc \
  src/kernels/matmul_ref.cc src/kernels/matmul_testing.cc src/kernels/cpu/kernel_table.cc \
  src/kernels/cpu/kernels_neon.cc src/kernels/cpu/kernels_generic.cc src/kernels/matmul_test.cc \
  src/kernels/ceilings.cc src/base/log.cc src/kernels/attention.cc src/kernels/attention_portable.cc src/kernels/cpu/attention_avx512bf16.cc src/kernels/cpu/attention_avx512vnni.cc \
  src/kernels/attention_ref.cc src/kernels/attention_test.cc src/kernels/kv_rows.cc src/kernels/kv_rows_ref.cc \
  src/kernels/kv_rows_test.cc src/kernels/vec_ops.cc src/kernels/vec_ops_test.cc src/kernels/quantize.cc \
  src/kernels/quantize_k.cc src/kernels/quantize_simple.cc src/kernels/routing.cc src/kernels/routing_test.cc; do
  object="$out/obj/$(basename "$source" .cc).o"
  # Everything is rebuilt when a header changed; that is simpler than tracking them.
  if [ ! -e "$object" ] || [ -n "$(find src/base src/tensor src/kernels "$source" -newer "$object" -type f | head -1)" ]; then
    aarch64-linux-gnu-g++ $flags -c "$source" -o "$object"
  fi
  objects="$objects $object"
done
for part in gtest-all gtest_main; do
  [ -e "$out/obj/$part.o" ] || aarch64-linux-gnu-g++ -O1 -I$gtest/include -I$gtest -c "$gtest/src/$part.cc" -o "$out/obj/$part.o"
  objects="$objects $out/obj/$part.o"
done
aarch64-linux-gnu-g++ -static $objects -o "$out/kernels_test" -lpthread
for cpu in max cortex-a53; do
  echo "processor: $cpu"
  qemu-aarch64-static -cpu "$cpu" "$out/kernels_test" --gtest_brief=1 "$@"
done
