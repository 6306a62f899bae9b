# cpack -G DEB: libfaq-runtime-dev, libfaq-dev and faq-tools; cpack -G TGZ: a folder that runs anywhere (docs/install.md).
set(FAQ_PACKAGE_CONTACT "the faq authors <faq@packages.example>" CACHE STRING "Who answers for the packages: Name <address>")
set(CPACK_PACKAGE_NAME faq)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT ${FAQ_PACKAGE_CONTACT})
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY ${PROJECT_DESCRIPTION})
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_VERBATIM_VARIABLES TRUE)
set(CPACK_GENERATOR DEB)
set(CPACK_STRIP_FILES TRUE)
set(CPACK_THREADS 0)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/packages)
set(CPACK_PROJECT_CONFIG_FILE ${PROJECT_SOURCE_DIR}/tools/packages/generators.cmake)
set(CPACK_FAQ_SHARED ${BUILD_SHARED_LIBS})
set(CPACK_FAQ_BUNDLE ${FAQ_BUNDLE})

# --- Debian packages: one of each component
set(CPACK_COMPONENTS_ALL runtime library tools)
set(CPACK_DEB_COMPONENT_INSTALL TRUE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION TRUE)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/tools/packages/debian_files.cmake)

# What a static library links: its -dev package. Of oneDNN the version that the library was compiled with, or newer ones of the same
# major version; CMake's package of oneDNN looks for OpenCL.
math(EXPR next_major "${dnnl_VERSION_MAJOR} + 1")
set(runtime_needs "libdnnl-dev (>= ${dnnl_VERSION_MAJOR}.${dnnl_VERSION_MINOR})" "libdnnl-dev (<< ${next_major})"
  ocl-icd-opencl-dev nlohmann-json3-dev zlib1g-dev)
set(library_needs "libfaq-runtime-dev (= ${PROJECT_VERSION})" libfmt-dev libarchive-dev libjpeg-dev libpng-dev)
if(FAQ_BUILD_MPI)
  list(APPEND library_needs libopenmpi-dev)
endif()
# For faq::onnx, which is there for those who link it.
if(FAQ_BUILD_ONNX)
  set(CPACK_DEBIAN_LIBRARY_PACKAGE_SUGGESTS libprotobuf-dev)
endif()
list(JOIN runtime_needs ", " CPACK_DEBIAN_RUNTIME_PACKAGE_DEPENDS)
list(JOIN library_needs ", " CPACK_DEBIAN_LIBRARY_PACKAGE_DEPENDS)
# What the programs link is found out: the shared libraries of the machine, with versions. The converter is a script.
set(CPACK_DEBIAN_TOOLS_PACKAGE_SHLIBDEPS TRUE)
set(CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS python3:any)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SUGGESTS bash-completion)

set(what "Image classifiers, fine-tuned and run in the integers they are deployed in.")
foreach(row "runtime:libfaq-runtime-dev:libdevel:integer neural networks (library to run them)"
            "library:libfaq-dev:libdevel:integer neural networks (library to train them)"
            "tools:faq-tools:science:integer neural networks (programs to train and run them)")
  string(REPLACE ":" ";" row ${row})
  list(GET row 0 component)
  list(GET row 1 package)
  list(GET row 2 section)
  list(GET row 3 summary)
  string(TOUPPER ${component} upper)
  set(CPACK_DEBIAN_${upper}_PACKAGE_NAME ${package})
  set(CPACK_DEBIAN_${upper}_PACKAGE_SECTION ${section})
  set(CPACK_DEBIAN_${upper}_DESCRIPTION "${summary}\n${what}")
endforeach()
set(CPACK_DEBIAN_RUNTIME_DESCRIPTION "${CPACK_DEBIAN_RUNTIME_DESCRIPTION}
This package has faq::runtime, a static library that loads and runs
integer.safetensors files, and its headers.")
set(CPACK_DEBIAN_LIBRARY_DESCRIPTION "${CPACK_DEBIAN_LIBRARY_DESCRIPTION}
This package has faq::faq, a static library that quantizes, fine-tunes,
evaluates and exports networks, and its headers.")
set(CPACK_DEBIAN_TOOLS_DESCRIPTION "${CPACK_DEBIAN_TOOLS_DESCRIPTION}
This package has faq-train, faq-eval, faq-export, faq-report, faq-bench,
their man pages and their completion for bash.")
include(CPack)
