# The page at / of `fathom serve`: webui/, built with Vite and compiled into the program. Optional: without npm, without
# a network, or where the build of the page fails, everything else builds as ever, `/` answers with a plain page, and
# both the build and ./test say so.
#
# The page is built when the program is, and only when something in webui/ has changed. Where npm is missing, a
# webui/dist that is there already (npm run build, on any machine) is taken.

set(FATHOM_WEB "AUTO" CACHE STRING "the web page, which needs npm: ON, OFF, or AUTO (when it can be built)")
set_property(CACHE FATHOM_WEB PROPERTY STRINGS AUTO ON OFF)

set(web_source ${CMAKE_SOURCE_DIR}/webui)
set(web_binary ${CMAKE_BINARY_DIR}/webui)
set(web_state ${web_binary}/state)  # one line for people and scripts: "embedded", or why it is not

# Sets `out` to why npm cannot build the page here, or to nothing.
function(fathom_web_obstacle out)
  find_program(FATHOM_NPM npm)
  find_program(FATHOM_NODE NAMES node nodejs)
  if(NOT FATHOM_NPM OR NOT FATHOM_NODE)
    set(${out} "npm is not installed" PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND ${FATHOM_NODE} --version OUTPUT_VARIABLE version OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  string(REGEX REPLACE "^v" "" version "${version}")
  if(version VERSION_LESS 20.19)
    set(${out} "node is ${version}, and 20.19 is needed" PARENT_SCOPE)
    return()
  endif()
  set(${out} "" PARENT_SCOPE)
endfunction()

set(web_obstacle "FATHOM_WEB is OFF")
if(NOT FATHOM_WEB STREQUAL "OFF" AND NOT FATHOM_FUZZ)
  fathom_web_obstacle(web_obstacle)
  if(web_obstacle AND EXISTS ${web_source}/dist/index.html.gz)
    set(web_obstacle "")
    set(FATHOM_NPM "")
  endif()
endif()

file(MAKE_DIRECTORY ${web_binary})
if(web_obstacle)
  if(FATHOM_WEB STREQUAL "ON")
    message(FATAL_ERROR "fathom: FATHOM_WEB is ON but ${web_obstacle}")
  endif()
  message(STATUS "fathom: the web page is left out: ${web_obstacle} (docs/webui.md)")
  file(WRITE ${web_state} "left out: ${web_obstacle}\n")
elseif(EXISTS ${CMAKE_SOURCE_DIR}/src/server/web_page.h)
  set(web_generated ${web_binary}/web_page_assets.cc)
  # What failed before (no network, then) is tried again after the next configuring, not at every build.
  if(EXISTS ${web_state})
    file(READ ${web_state} state)
    if(NOT state STREQUAL "embedded\n")
      file(REMOVE ${web_generated})
    endif()
  endif()
  file(GLOB web_inputs CONFIGURE_DEPENDS ${web_source}/src/*)
  add_custom_command(
    OUTPUT ${web_generated}
    BYPRODUCTS ${web_state}
    COMMAND ${CMAKE_COMMAND} -DSOURCE=${web_source} -DBINARY=${web_binary} -DGENERATED=${web_generated}
            -DSTATE=${web_state} -DMODE=${FATHOM_WEB} "-DNPM=${FATHOM_NPM}" "-DNODE=${FATHOM_NODE}"
            -P ${CMAKE_SOURCE_DIR}/cmake/FathomWebPageBuild.cmake
    DEPENDS ${web_inputs} ${web_source}/index.html ${web_source}/package.json ${web_source}/package-lock.json
            ${web_source}/vite.config.ts ${CMAKE_SOURCE_DIR}/cmake/FathomWebPageBuild.cmake
    COMMENT "The web page"
    VERBATIM)
  target_sources(fathom_server PRIVATE ${web_generated})
  # The generated source defines the table, even when it is empty because the page could not be built.
  set_source_files_properties(${CMAKE_SOURCE_DIR}/src/server/web_page.cc PROPERTIES COMPILE_DEFINITIONS
                              FATHOM_HAVE_WEB_PAGE=1)
endif()
