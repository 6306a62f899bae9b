// faq-export: a network as what other machines and programs read.
#include <fmt/format.h>

#include <algorithm>

#include "quant/deploy/c_export.h"
#include "quant/deploy/onnx/onnx_file.h"
#include "quant/deploy/onnx_export.h"
#include "quant/float_onnx.h"
#include "tools/cli.h"
#include "tools/network_choice.h"
#include "tools/waiting.h"

namespace faq {
namespace {

using nlohmann::json;

constexpr double kilobyte = 1000;

struct Result {
  json fields;
  std::string text;
};

int print(const Result& result, const cxxopts::ParseResult& parsed) {
  if (cli::is_on(parsed, "json"))
    cli::print_json(result.fields);
  else
    cli::print_result(result.text);
  return 0;
}

json written_json(const CExport& written) {
  json result{{"source", written.source.string()},
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
                        cli::shell_word(written.source.string()), cli::shell_word(written.test.string()));
  return text;
}

Result to_c(const cxxopts::ParseResult& parsed) {
  const CExportOptions options{.name = cli::text_of(parsed, "c-name"),
                               .test_images = cli::count_of(parsed, "c-test", 0, 1000)};
  const IntegerNetwork network = IntegerNetwork::load(cli::text_of(parsed, "weights"));
  const CExport written = export_c(network, cli::text_of(parsed, "c"), options);
  return {written_json(written), written_text(written, options.name)};
}

Result written_onnx(OnnxModel model, const std::string& file, const std::string& weights) {
  std::error_code none;  // two files of which one is not there yet are not the same
  check(!std::filesystem::equivalent(file, weights, none), ErrorKind::usage, "ONNX file ", file,
        ": that is the network itself");
  const int opset = model.opset();
  const std::size_t nodes = model.nodes.size();
  write_onnx(std::move(model), file);
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(file));
  return {{{"file", file}, {"opset", opset}, {"nodes", nodes}, {"bytes", bytes}},
          fmt::format("wrote {}: opset {}, {} nodes, {:.1f} kB\n", file, opset, nodes,
                      static_cast<double>(bytes) / kilobyte)};
}

Result to_onnx(const cxxopts::ParseResult& parsed) {
  check_onnx();
  const IntegerNetwork network = IntegerNetwork::load(cli::text_of(parsed, "weights"));
  return written_onnx(onnx_model(network), cli::text_of(parsed, "onnx"), cli::text_of(parsed, "weights"));
}

// The options of faq-train and faq-eval that say what float weights are.
const std::vector<std::string> of_weights{
    "model",         "num-classes",   "in-channels", "ignore-extra", "val-resize-size",
    "val-crop-size", "interpolation", "mean",        "std"};

std::vector<OptionRow> weight_options() {
  std::vector<OptionRow> rows;
  for (const std::string& name : of_weights) rows.push_back(find_option(name));
  return rows;
}

Result to_float_onnx(const cxxopts::ParseResult& parsed) {
  check_onnx();
  TrainOptions options = assemble(json::object(), cli::given_settings(parsed, weight_options()));
  options.weights = cli::text_of(parsed, "weights");
  const Network network = open_network(cli::network_choice(parsed, options));
  check(network.trained != nullptr && !network.quantized, ErrorKind::usage, "--float-onnx: ", options.weights,
        ": expected float weights, found ", network.kind);
  const Preprocessing images =
      preprocessing_for(network, options, [&] { return model_info(network.model).input_size; });
  OnnxModel model = float_onnx_model(*network.trained, images);
  model.metadata.emplace("model", network.model);
  return written_onnx(std::move(model), cli::text_of(parsed, "float-onnx"), options.weights);
}

// What can be written, and the options that it alone reads.
struct Target {
  const char* name;
  std::vector<std::string> own;
  Result (*write)(const cxxopts::ParseResult&);
};

const std::vector<Target>& targets() {
  static const std::vector<Target> rows = [] {
    std::vector<std::string> of_float = of_weights;
    of_float.emplace_back("use-ema");
    return std::vector<Target>{
        {"c", {"c-name", "c-test"}, to_c}, {"onnx", {}, to_onnx}, {"float-onnx", of_float, to_float_onnx}};
  }();
  return rows;
}

const Target& target_of(const cxxopts::ParseResult& parsed) {
  const auto is_given = [&](const auto& target) { return parsed.count(target.name) > 0; };
  check(std::ranges::count_if(targets(), is_given) == 1, ErrorKind::usage,
        "expected one of --c, --onnx and --float-onnx: what to write");
  const Target& target = *std::ranges::find_if(targets(), is_given);
  for (const Target& other : targets())
    for (const std::string& option : other.own)
      check(&other == &target || parsed.count(option) == 0, ErrorKind::usage, "--", option,
            " has no effect on --", target.name);
  return target;
}

int body(int argc, char** argv) {
  cli::Parser parser("faq-export", "Writes an integer network as C or ONNX, or a float one as ONNX.");
  cli::add_options(
      parser, "export",
      {{"weights", "integer.safetensors of a run; of --float-onnx: float weights or a checkpoint", "FILE"},
       {"c", "writes NAME.c and NAME.h into this folder: C99 that makes the bits of faq-eval", "DIR"},
       {"c-name", "of the files and of what they define", "NAME", "network"},
       {"c-test", "also writes NAME_test.c, which compares the logits of N random images", "N", "0"},
       {"onnx", "writes a quantized ONNX model (QDQ)", "FILE"},
       {"float-onnx", "writes the float network as ONNX", "FILE"},
       {"use-ema", "--float-onnx of a checkpoint: the moving average of its run (--model-ema)"}});
  cli::add_options(parser, weight_options(), {{"val-crop-size", "default: the network's"}});
  const auto parsed = cli::parse(parser, argc, argv, "weights");
  if (cli::help_or_version(parser, parsed)) return 0;
  check(parsed.count("weights") > 0, ErrorKind::usage, "--weights is required: integer.safetensors of a run");
  return print(target_of(parsed).write(parsed), parsed);
}

}  // namespace
}  // namespace faq

int main(int argc, char** argv) {
  faq::cli::bound_waiting(argv);
  return faq::cli::run("faq-export", [&] { return faq::body(argc, argv); });
}
