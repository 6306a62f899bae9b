# embed_text(HEADER FUNCTION WHAT FILE…): a header, below generated/, with a function that returns the text of each file by its name
# without its suffix: FUNCTION("conv"). Another name throws, with WHAT it was asked for.
function(embed_text header function what)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${ARGN})
  set(cases "")
  foreach(file ${ARGN})
    get_filename_component(name ${file} NAME_WE)
    file(READ ${file} text)
    string(APPEND cases "  if (name == \"${name}\") return R\"TEXT(${text})TEXT\";\n")
  endforeach()
  file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/generated/${header} CONTENT
"// Made by tools/cmake/embed_text.cmake.
#pragma once

#include <string>

#include \"core/error.h\"

namespace faq {

inline std::string ${function}(const std::string& name) {
${cases}  fail(ErrorKind::internal, \"no ${what} \", name);
}

}  // namespace faq
")
endfunction()
