# faq.pc and faq-runtime.pc, for who builds without CMake: c++ -std=c++20 main.cpp $(pkg-config --cflags --libs faq)
# They name no place: where they lie says where the rest is. A static library has nothing that knows what it needs, so all of it
# is said of everyone who links it; of a shared one only what its headers include.
file(RELATIVE_PATH to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" to_prefix ${to_prefix})
if(BUILD_SHARED_LIBS)
  set(private .private)
endif()

# Appends pkg-config's name of a library to the list `packages`, or, where it has none here, the library to `libraries`.
find_package(PkgConfig QUIET)
function(need package library)
  if(PKG_CONFIG_FOUND)
    execute_process(COMMAND ${PKG_CONFIG_EXECUTABLE} --exists ${package} RESULT_VARIABLE missing)
  else()
    set(missing TRUE)
  endif()
  if(missing)
    list(APPEND libraries -l${library})
  else()
    list(APPEND packages ${package})
  endif()
  set(packages ${packages} PARENT_SCOPE)
  set(libraries ${libraries} PARENT_SCOPE)
endfunction()

# The same of MPI, whose name here is that of an implementation: the one whose libraries lie where CMake has found MPI's.
function(need_mpi)
  if(NOT MPI_CXX_LIBRARIES)  # a compiler that links MPI by itself
    return()
  endif()
  list(GET MPI_CXX_LIBRARIES 0 library)
  get_filename_component(found "${library}" DIRECTORY)
  get_filename_component(found "${found}" REALPATH)
  foreach(package ompi-c mpich)
    if(PKG_CONFIG_FOUND)
      execute_process(COMMAND ${PKG_CONFIG_EXECUTABLE} --variable=libdir ${package}
        OUTPUT_VARIABLE place OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
      get_filename_component(place "${place}" REALPATH)
      if(place STREQUAL found)
        set(packages ${packages} ${package} PARENT_SCOPE)
        return()
      endif()
    endif()
  endforeach()
  set(libraries ${libraries} ${MPI_CXX_LIBRARIES} PARENT_SCOPE)
endfunction()

function(write_pkg_config name description library requires packages libraries component)
  list(JOIN packages ", " packages)
  list(JOIN libraries " " libraries)
  if(NOT private AND requires AND packages)
    string(APPEND requires ", ")
  endif()
  if(private)
    set(needs "Requires: ${requires}\nRequires.private: ${packages}\nLibs: -L\${libdir} -l${library}\nLibs.private: ${libraries}")
  else()
    set(needs "Requires: ${requires}${packages}\nLibs: -L\${libdir} -l${library} ${libraries}")
  endif()
  file(WRITE ${PROJECT_BINARY_DIR}/${name}.pc "prefix=\${pcfiledir}/${to_prefix}
libdir=\${prefix}/${CMAKE_INSTALL_LIBDIR}
includedir=\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}

Name: ${name}
Description: ${description}
URL: https://arxiv.org/abs/1809.04191
Version: ${PROJECT_VERSION}
${needs}
Cflags: -I\${includedir}
")
  install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT ${component})
endfunction()

need(zlib z)
list(APPEND libraries -ldnnl ${OpenMP_CXX_FLAGS})
write_pkg_config(faq-runtime "Integer networks that faq has made" faq_runtime nlohmann_json "${packages}" "${libraries}" runtime)

set(packages "")
set(libraries "")
need(fmt fmt)
need(libarchive archive)
need(libjpeg jpeg)
need(libpng png)
if(FAQ_BUILD_MPI)
  need_mpi()
endif()
write_pkg_config(faq "${PROJECT_DESCRIPTION}" faq "faq-runtime = ${PROJECT_VERSION}" "${packages}" "${libraries}" library)
