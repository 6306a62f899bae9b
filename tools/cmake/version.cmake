# Writes the only source that knows the revision. Runs at every build, and writes when something has changed, so that a commit
# compiles one file:
#   cmake -DVERSION=0.1.0 -DSOURCE=DIR -DOUTPUT=FILE -P version.cmake
cmake_minimum_required(VERSION 3.23)
set(revision "$Format:%H$")  # `git archive` fills it in (.gitattributes)
if(NOT revision MATCHES "^[0-9a-f]+$")
  set(revision unknown)
  find_program(GIT git)
  file(REAL_PATH ${SOURCE} source)
  if(GIT)
    execute_process(COMMAND ${GIT} rev-parse --show-toplevel WORKING_DIRECTORY ${source}
      OUTPUT_VARIABLE top OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  # Sources without a git of their own may lie in somebody else's.
  if(GIT AND "${top}" STREQUAL "${source}")
    execute_process(COMMAND ${GIT} rev-parse --verify HEAD WORKING_DIRECTORY ${source}
      OUTPUT_VARIABLE head OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    execute_process(COMMAND ${GIT} --no-optional-locks status --porcelain --untracked-files=no WORKING_DIRECTORY ${source}
      OUTPUT_VARIABLE changes ERROR_QUIET)
    if(head)
      set(revision ${head})
    endif()
  endif()
endif()
if(NOT revision STREQUAL unknown)
  string(SUBSTRING ${revision} 0 12 revision)
endif()
if(NOT "${changes}" STREQUAL "")
  string(APPEND revision -dirty)
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/version.cpp.in ${OUTPUT} @ONLY)
