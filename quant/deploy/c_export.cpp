#include "quant/deploy/c_export.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "core/atomic_file.h"
#include "core/rng.h"
#include "core/text.h"
#include "quant/deploy/c_ops.h"  // made from quant/deploy/c by CMake
#include "quant/deploy/c_program.h"
#include "quant/deploy/c_text.h"

namespace faq {
namespace {

// What an op is made of, in the order in which C wants to see it.
const std::vector<std::pair<std::string, std::vector<std::string>>> parts_of_ops{
    {"weights", {"conv", "linear"}},
    {"dot", {"conv", "linear"}},
    {"value", {"conv", "norm_act", "max_pool", "avg_pool", "global_avg_pool"}},
    {"requantize", {"conv", "norm_act"}},
    {"quantize", {"sums"}},  // a classifier that reads sums
    {"input", {"input"}},
    {"conv", {"conv"}},
    {"norm_act", {"norm_act"}},
    {"shortcut", {"shortcut"}},
    {"max_pool", {"max_pool"}},
    {"avg_pool", {"avg_pool"}},
    {"concat", {"concat"}},
    {"global_avg_pool", {"global_avg_pool"}},
    {"linear", {"linear"}}};

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

std::string with_name(std::string text, const std::string& name) {
  for (const auto& [mark, value] :
       {std::pair{std::string("@NAME@"), upper(name)}, {std::string("@name@"), name}})
    for (std::size_t at = 0; (at = text.find(mark, at)) != std::string::npos; at += value.size())
      text.replace(at, mark.size(), value);
  return text;
}

std::string header_text(const IntegerNetwork& network, const CProgram& program) {
  const Preprocessing& p = network.preprocessing();
  const bool is_grey = p.channels == 1;
  std::string text = concat(
      "/* An integer network, made by faq.\n"
      " *\n"
      " * An image has ",
      p.height, " rows of ", p.width, " pixels of ", is_grey ? "1 byte" : "3 bytes (red, green, blue)",
      ",\n * one after the other: image[", is_grey ? "" : "(", "row * @NAME@_WIDTH + column",
      is_grey ? "" : ") * @NAME@_CHANNELS + channel", "].\n");
  if (p.resize > 0)
    text += concat(" * Its shorter side was resized to ", p.resize, " (", name_of(p.interpolation),
                   ") before the middle was cut out.\n");
  text +=
      " * Mean and deviation are in the network's first table.\n"
      " *\n"
      " * A logit is an integer times @NAME@_LOGIT_SCALE plus a bias, in float. The class is that of the\n"
      " * largest one.\n"
      " *\n"
      " * Nothing is allocated, and nothing but the arena is written to. One call runs at a time, in less\n"
      " * than 1 kB of stack.\n"
      " *\n"
      " * @name@.c may be compiled with\n"
      " *   @NAME@_TABLE    what weights and other tables are declared with, e.g. "
      "__attribute__((section(\".flash\")))\n"
      " *   @NAME@_ARENA    the same of the arena, e.g. __attribute__((section(\".dtcm\")))\n"
      " *   @NAME@_PROFILE  defined: @name@_op_done() is called after each op\n"
      " */\n"
      "#ifndef @NAME@_H\n#define @NAME@_H\n\n#include <stdint.h>\n\n";
  std::array<char, 40> scale{};
  std::snprintf(scale.data(), scale.size(), "%.8ef", static_cast<double>(program.scale_of_logits));
  text += concat("#define @NAME@_HEIGHT ", p.height, "\n#define @NAME@_WIDTH ", p.width,
                 "\n#define @NAME@_CHANNELS ", p.channels, "\n#define @NAME@_CLASSES ", network.num_classes(),
                 "\n#define @NAME@_LOGIT_SCALE ", scale.data(),
                 "\n/* What is written to: RAM. */\n#define @NAME@_ARENA_BYTES ", program.arena_bytes,
                 "\n/* What is only read, beside the code: flash. */\n#define @NAME@_CONSTANT_BYTES ",
                 program.constant_bytes, "\n\n");
  text +=
      "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
      "/* Writes @NAME@_CLASSES logits for an image. */\n"
      "void @name@_run(const uint8_t *image, float *logits);\n\n"
      "/* The class of the largest logit, of equal ones the first. */\n"
      "int @name@_argmax(const float *logits);\n";
  if (!p.class_names.empty()) text += "\nextern const char *const @name@_class_names[@NAME@_CLASSES];\n";
  return text +
         "\n#ifdef @NAME@_PROFILE\n"
         "/* Yours: it may read a timer. Gets the name of the op that is done. */\n"
         "void @name@_op_done(const char *op);\n"
         "#endif\n"
         "\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n";
}

// The source, in parts. What the network brings along may hold any text, and so what looks like a name to
// fill in; it may be long, too.
std::vector<std::string> source_texts(const IntegerNetwork& network, const CProgram& program,
                                      const std::string& name) {
  std::string ops =
      "/* An integer network, made by faq: C99, no library, no allocation. What it computes are the bits of "
      "faq-eval.\n * @name@.h says how it is used. */\n";
  if (program.has_literals)
    ops +=
        "#ifdef __GNUC__\n#pragma GCC diagnostic ignored \"-Woverlength-strings\" /* of tables */\n#endif\n";
  ops += c_op("begin") + "\n";
  for (const auto& [part, kinds] : parts_of_ops)
    if (std::ranges::any_of(kinds, [&](const std::string& kind) { return program.kinds.contains(kind); }))
      ops += c_op(part) + "\n";
  ops += c_op("argmax") + "\n";
  std::vector<std::string> texts{
      with_name(ops + "/* --- the network's tables, in the order of its ops */\n\n", name), program.tables,
      with_name(
          "/* --- the network */\n\nstatic @NAME@_ARENA int32_t arena[@NAME@_ARENA_BYTES / 4];\n\n"
          "void @name@_run(const uint8_t *image, float *logits)\n{\n    uint8_t *const bytes = (uint8_t "
          "*)arena;\n",
          name),
      program.calls, "}\n"};
  const std::vector<std::string>& classes = network.preprocessing().class_names;
  if (!classes.empty()) {
    texts.push_back(with_name("\nconst char *const @name@_class_names[@NAME@_CLASSES] = {\n", name));
    for (const std::string& one : classes) texts.push_back(concat("    ", c_string(one), ",\n"));
    texts.emplace_back("};\n");
  }
  return texts;
}

// Random pixels, and in every second image the same in blocks, which are more like pictures.
Tensor random_images(const IntegerNetwork& network, const CExportOptions& options) {
  constexpr std::int64_t block = 5;
  const std::int64_t height = network.height(), width = network.width(), channels = network.channels();
  Tensor images = Tensor::empty({options.test_images, height, width, channels}, DType::u8);
  auto* pixel = images.mutable_data<std::uint8_t>();
  for (std::int64_t n = 0; n < images.dim(0); ++n) {
    const std::int64_t side = n % 2 == 0 ? 1 : block;
    for (std::int64_t y = 0; y < height; ++y)
      for (std::int64_t x = 0; x < width; ++x)
        for (std::int64_t c = 0; c < channels; ++c) {
          const std::int64_t place = (y / side * width + x / side) * channels + c;
          Random random(options.seed, RandomStream::test, static_cast<std::uint64_t>(n),
                        static_cast<std::uint64_t>(place));
          *pixel++ = static_cast<std::uint8_t>(random.below(256));
        }
  }
  return images;
}

std::string test_text(const IntegerNetwork& network, const CExportOptions& options) {
  const Tensor images = random_images(network, options);
  const Tensor logits = network.forward(images);
  std::string text =
      "/* Runs the network of @name@.c on images that faq has run it on, and compares the bits of the "
      "logits. */\n"
      "#include <stdio.h>\n#include <string.h>\n#include <time.h>\n\n#include \"@name@.h\"\n\n";
  const auto rows = [&](const char* type, const char* name, const std::string& extent, const auto& values,
                        auto text_of) {
    text += concat("static const ", type, " ", name, "[", options.test_images, "][", extent, "] = {\n");
    const std::size_t length = values.size() / static_cast<std::size_t>(options.test_images);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i % length == 0) text += "    {";
      text += text_of(values[i]);
      text += i % length + 1 == length ? "},\n" : i % 24 == 23 ? ",\n     " : ",";
    }
    text += "};\n\n";
  };
  rows("uint8_t", "images", "@NAME@_HEIGHT * @NAME@_WIDTH * @NAME@_CHANNELS", images.span<std::uint8_t>(),
       [](std::uint8_t v) { return std::to_string(v); });
  rows("float", "expected", "@NAME@_CLASSES", logits.span<float>(), c_float);
  return text + c_op("test");
}

}  // namespace

CExport export_c(const IntegerNetwork& network, const std::filesystem::path& folder,
                 const CExportOptions& options) {
  check(is_c_identifier(options.name), ErrorKind::usage, "'", options.name,
        "' is no identifier of C: expected letters, digits and _, at most 40");
  check(options.test_images >= 0 && options.test_images <= 1000, ErrorKind::usage, options.test_images,
        " images to test with: expected 0 to 1000");
  const CProgram program = c_program(network, upper(options.name) + "_TABLE");
  CExport result{.source = folder / (options.name + ".c"),
                 .header = folder / (options.name + ".h"),
                 .test = {},
                 .constant_bytes = program.constant_bytes,
                 .arena_bytes = program.arena_bytes};
  std::vector<std::pair<std::filesystem::path, std::vector<std::string>>> files{
      {result.header, {with_name(header_text(network, program), options.name)}},
      {result.source, source_texts(network, program, options.name)}};
  if (options.test_images > 0) {
    result.test = folder / (options.name + "_test.c");
    files.push_back({result.test, {with_name(test_text(network, options), options.name)}});
  }

  std::error_code error;
  const bool is_new = std::filesystem::create_directories(folder, error);
  check(!error, ErrorKind::io, "making the folder '", folder.string(), "': ", error.message());
  try {
    // All of them are on the disk before the first takes its place.
    std::deque<AtomicFile> written;
    for (const auto& [file, texts] : files) {
      written.emplace_back(file);
      for (const std::string& text : texts) written.back().write(text);
    }
    for (AtomicFile& file : written) file.commit();
  } catch (...) {
    if (is_new) std::filesystem::remove(folder, error);  // if it is empty
    throw;
  }
  return result;
}

}  // namespace faq
