// faq-export: an integer network as what other machines read.
#include <fmt/format.h>

#include "quant/deploy/c_export.h"
#include "tools/cli.h"
#include "tools/waiting.h"

namespace faq {
namespace {

constexpr double kilobyte = 1000;

nlohmann::json written_json(const CExport& written) {
  nlohmann::json result{{"source", written.source.string()},
                        {"header", written.header.string()},
                        {"constant_bytes", written.constant_bytes},
                        {"arena_bytes", written.arena_bytes}};
  if (!written.test.empty()) result["test"] = written.test.string();
  return result;
}

std::string written_text(const CExport& written, const std::string& name) {
  std::string text =
      fmt::format("wrote {} and {}: {:.1f} kB of constants, {:.1f} kB of memory\n", written.source.string(),
                  written.header.string(), static_cast<double>(written.constant_bytes) / kilobyte,
                  static_cast<double>(written.arena_bytes) / kilobyte);
  if (!written.test.empty())
    text += fmt::format("try it: cc -std=c99 -O2 -o {0}_test {1} {2} && ./{0}_test\n", name,
                        written.source.string(), written.test.string());
  return text;
}

int body(int argc, char** argv) {
  cxxopts::Options parser("faq-export", "Writes an integer network as C.");
  cli::add_options(
      parser, "export",
      {{"weights", "integer.safetensors of a run", "FILE"},
       {"c", "writes NAME.c and NAME.h into this folder: C99 that makes the bits of faq-eval", "DIR"},
       {"c-name", "of the files and of what they define", "NAME", "network"},
       {"c-test", "also writes NAME_test.c, which compares the logits of N random images", "N", "0"}});
  const auto parsed = cli::parse(parser, argc, argv, "weights");
  if (cli::help_or_version(parser, parsed)) return 0;
  check(parsed.count("weights") > 0, ErrorKind::usage,
        "expected integer.safetensors of a run: faq-export FILE --c DIR");
  check(parsed.count("c") > 0, ErrorKind::usage, "--c is required: the folder to write to");
  const CExportOptions options{.name = cli::text_of(parsed, "c-name"),
                               .test_images = cli::count_of(parsed, "c-test", 0, 1000)};
  const IntegerNetwork network = IntegerNetwork::load(cli::text_of(parsed, "weights"));
  const CExport written = export_c(network, cli::text_of(parsed, "c"), options);
  if (cli::is_on(parsed, "json"))
    cli::print_json(written_json(written));
  else
    cli::print_result(written_text(written, options.name));
  return 0;
}

}  // namespace
}  // namespace faq

int main(int argc, char** argv) {
  faq::cli::bound_waiting(argv);
  return faq::cli::run("faq-export", [&] { return faq::body(argc, argv); });
}
