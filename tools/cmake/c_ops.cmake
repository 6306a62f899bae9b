# Makes a header of the C that quant/deploy/c_export.cpp puts together: c_op("conv") is the text of quant/deploy/c/conv.c.
file(GLOB FAQ_C_OPS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/quant/deploy/c/*.c)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${FAQ_C_OPS})
set(cases "")
foreach(file ${FAQ_C_OPS})
  get_filename_component(op ${file} NAME_WE)
  file(READ ${file} text)
  string(APPEND cases "  if (op == \"${op}\") return R\"C(${text})C\";\n")
endforeach()
file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/generated/quant/deploy/c_ops.h CONTENT
"// Made by tools/cmake/c_ops.cmake from quant/deploy/c.
#pragma once

#include <string>

#include \"core/error.h\"

namespace faq {

/// The C of an op of an integer network, or of what ops share.
inline std::string c_op(const std::string& op) {
${cases}  fail(ErrorKind::internal, \"no C for \", op);
}

}  // namespace faq
")
