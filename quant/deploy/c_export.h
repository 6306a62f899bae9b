// An integer network as C: for machines that have a C compiler and nothing else.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "quant/deploy/integer_network.h"

namespace faq {

struct CExportOptions {
  std::string name = "network";  ///< of the files and of what they define: an identifier of C
  int test_images = 0;           ///< > 0: also a program that runs the network on so many random images
  std::uint64_t seed = 1;        ///< of these images
};

struct CExport {
  std::filesystem::path source, header, test;  ///< `test` is empty without one
  std::int64_t constant_bytes = 0;             ///< weights and tables: read-only memory, beside the code
  std::int64_t arena_bytes = 0;                ///< the memory that the network writes to
};

/// Writes NAME.c and NAME.h into `folder`: C99 without a library, allocation or floating point but for the
/// logits. NAME_run() makes the logits of IntegerNetwork::forward(), bit for bit, whatever the machine.
/// NAME.h says how it is used. The ops are those of quant/deploy/c. Each file is written whole or not at all,
/// and none before there is room for all.
///
/// Throws io. Throws usage, before anything is written, for a name that is no identifier and for an op, a
/// size or a multiplier that has no place in C.
CExport export_c(const IntegerNetwork& network, const std::filesystem::path& folder,
                 const CExportOptions& options = {});

}  // namespace faq
