#include "tests/parsers.h"

#include <unistd.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "core/json.h"
#include "core/safetensors.h"
#include "data/dataset.h"
#include "data/decode.h"
#include "data/labels_file.h"
#include "quant/deploy/integer_network.h"
#include "tests/tar_writer.h"
#include "train/checkpoint.h"
#include "train/option_table.h"
#include "train/report_page.h"

namespace faq::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// A folder of this process, in memory where there is such a place: files are written by the thousand.
class Scratch {
 public:
  Scratch() : path_(parent() / concat("faq-parsers-", ::getpid())) { fs::create_directories(path_); }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  static fs::path parent() {
    const fs::path shared_memory = "/dev/shm";
    return ::access(shared_memory.c_str(), W_OK) == 0 ? shared_memory : fs::temp_directory_path();
  }
  fs::path path_;
};

const fs::path& scratch() {
  static const Scratch folder;
  return folder.path();
}

fs::path put(const fs::path& name, const std::string& bytes) {
  const fs::path file = scratch() / name;
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << bytes;
  return file;
}

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// --- safetensors

std::string little_endian(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xff);
  return text;
}

// As other programs write them: with checksums nothing would get past the first changed byte.
std::string without_checksums(const NamedTensors& contents) {
  const fs::path file = scratch() / "written.safetensors";
  write_safetensors(file, contents);
  const std::string bytes = bytes_of(file);
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(bytes[i]);
  json header = json::parse(bytes.substr(8, length));
  header["__metadata__"].erase("crc32");
  const std::string text = header.dump();
  return little_endian(text.size(), 8) + text + bytes.substr(8 + length);
}

void parse_tensors(const std::string& bytes) { parse_safetensors(as_bytes(bytes), "tensors"); }

std::vector<std::string> tensor_seeds() {
  NamedTensors contents;
  contents.add("conv1.weight", Tensor::full({2, 3, 1, 1}, 0.5f));
  contents.add("steps", Tensor::zeros({}, DType::s32));
  contents.add("empty", Tensor::zeros({0, 4}, DType::bf16));
  contents.metadata = {{"format", "pt"}, {"note", "ü\n"}};
  std::vector<std::string> seeds{without_checksums(contents)};
  for (const char* dtype : {"F64", "F16", "I64"}) {
    const std::string text = json{{"x", {{"dtype", dtype}, {"shape", {0}}, {"data_offsets", {0, 0}}}}}.dump();
    seeds.push_back(little_endian(text.size(), 8) + text);
  }
  return seeds;
}

// --- integer.safetensors

// One op of every kind, weights of every code.
NamedTensors network_of_every_op() {
  NamedTensors file;
  const json format{{"scale", 0.125}, {"bits", 8}, {"signed", false}};
  const json of_input{{"scale", 0.0625}, {"bits", 8}, {"signed", true}};
  json ops = json::array();
  const auto add = [&](const char* kind, const std::string& name, const std::vector<int>& inputs, json more) {
    more.update(json{{"kind", kind}, {"name", name}, {"inputs", inputs}});
    ops.push_back(std::move(more));
  };
  const auto bytes = [&](const std::string& name, const Shape& shape, std::uint8_t value) {
    const std::vector<std::uint8_t> values(static_cast<std::size_t>(shape.numel()), value);
    file.add(name, Tensor::from<std::uint8_t>(shape, values));
  };
  const auto requantize = [&](const std::string& name, std::int64_t channels) {
    file.add(name + ".multiplier", Tensor::full({channels}, 0.01f));
    file.add(name + ".bias", Tensor::full({channels}, 1));
  };
  const auto conv = [&](const std::string& name, const Shape& shape, int bits, const char* code, int stride) {
    requantize(name, shape[0]);
    return json{{"weight_bits", bits},
                {"weight_code", code},
                {"weight_scale", 0.125},
                {"stride", stride},
                {"weight_shape", shape.extents()},
                {"padding", {1, 1, 1, 1}},
                {"groups", 1},
                {"low", 0},
                {"high", 15},
                {"residual_multiplier", stride == 2 ? 1.0 : 0.0},
                {"format", format}};
  };

  add("input", "input", {0}, {{"format", of_input}});
  file.add("input.table", Tensor::zeros({3, 256}, DType::s8));
  add("conv", "conv1", {1}, conv("conv1", {4, 3, 3, 3}, 4, "fixed_point", 1));
  bytes("conv1.weight", {54}, 0x21);
  add("shortcut", "shortcut", {2}, {{"stride", 2}, {"out_channels", 8}});
  json clusters = conv("conv2", {8, 4, 3, 3}, 2, "clusters", 2);
  clusters["cluster_size"] = 4;
  add("conv", "conv2", {2, 3}, std::move(clusters));
  bytes("conv2.weight", {72}, 0x11);
  bytes("conv2.scales", {8, 1}, 3);
  add("max_pool", "max_pool", {4}, {{"kernel", 3}, {"stride", 1}, {"padding", 1}});
  add("norm_act", "norm", {5}, {{"channels", 8}, {"low", 0}, {"high", 15}, {"format", format}});
  requantize("norm", 8);
  add("avg_pool", "avg_pool", {6}, {{"kernel", 3}, {"stride", 1}, {"padding", 1}, {"output", 0}});
  add("concat", "concat", {6, 7}, json::object());
  add("global_avg_pool", "mean", {8}, json::object());
  add("linear", "fc", {9},
      {{"weight_bits", 2},
       {"weight_code", "odd"},
       {"weight_scale", 0.25},
       {"weight_shape", {2, 16}},
       {"input", format}});
  bytes("fc.weight", {8}, 0x1b);
  file.add("fc.multiplier", Tensor::full({2}, 0.03125f));
  file.add("fc.bias", Tensor::zeros({2}));

  file.metadata = {{"format", "faq-integer-network"},
                   {"format_version", "5"},
                   {"model", "every op"},
                   {"preprocessing", json{{"height", 8},
                                          {"width", 8},
                                          {"channels", 3},
                                          {"resize", 9},
                                          {"interpolation", "bicubic"},
                                          {"mean", {0.5, 0.5, 0.5}},
                                          {"std", {0.25, 0.25, 0.25}},
                                          {"classes", {"ant", "bee"}}}
                                         .dump()},
                   {"network", json{{"ops", ops}}.dump()}};
  return file;
}

// Without checksums: load() would look no further.
void parse_network(const std::string& bytes) {
  IntegerNetwork::from(parse_safetensors(as_bytes(bytes), "network"), "network");
}
// Of every format there has been.
std::vector<std::string> network_seeds() {
  std::vector<std::string> seeds{without_checksums(network_of_every_op())};
  for (const char* name : {"1.safetensors", "2.safetensors", "3.safetensors", "4.safetensors"})
    seeds.push_back(
        without_checksums(read_safetensors(fs::path(FAQ_TEST_FIXTURES) / "integer_formats" / name)));
  return seeds;
}

// The same network described otherwise: its tensors are not touched, so more gets further.
void parse_network_with(const char* entry, const std::string& text) {
  static const NamedTensors network = network_of_every_op();
  NamedTensors file = network;
  file.metadata[entry] = text;
  IntegerNetwork::from(std::move(file), "network");
}
void parse_description(const std::string& text) { parse_network_with("network", text); }
std::vector<std::string> description_seeds() { return {network_of_every_op().metadata.at("network")}; }
void parse_images_of_network(const std::string& text) { parse_network_with("preprocessing", text); }
std::vector<std::string> images_of_network_seeds() {
  return {network_of_every_op().metadata.at("preprocessing")};
}

// --- images

void parse_image(const std::string& bytes) {
  for (const int channels : {1, 3}) decode_image(as_bytes(bytes), channels, "image");
}

std::vector<std::string> image_seeds(const char* extension) {
  std::vector<std::string> seeds;
  for (const auto& entry : fs::directory_iterator(fs::path(FAQ_TEST_FIXTURES) / "images"))
    if (entry.path().extension() == extension) seeds.push_back(bytes_of(entry.path()));
  return seeds;
}
std::vector<std::string> jpeg_seeds() { return image_seeds(".jpg"); }
std::vector<std::string> png_seeds() { return image_seeds(".png"); }

// --- data sets

// All images of the split, as a run would read them.
void read_all(const fs::path& folder, DatasetKind kind) {
  const auto dataset = open_dataset({folder, kind, 3}, Split::val);
  for (std::int64_t i = 0; i < std::min<std::int64_t>(dataset->size(), 16); ++i) dataset->image(i);
}

std::string big_endian(std::uint32_t value) {
  const std::string text = little_endian(value, 4);
  return {text.rbegin(), text.rend()};
}
std::string idx_images() {
  return big_endian(0x803) + big_endian(2) + big_endian(3) + big_endian(4) + std::string(24, 'x');
}
std::string idx_labels() { return big_endian(0x801) + big_endian(2) + std::string("\1\7", 2); }

std::string gzipped(const std::string& bytes) {
  const fs::path file = scratch() / "z";
  const gzFile out = ::gzopen(file.c_str(), "wb");
  ::gzwrite(out, bytes.data(), static_cast<unsigned>(bytes.size()));
  ::gzclose(out);
  return bytes_of(file);
}

void parse_idx(const std::string& images, const std::string& labels) {
  put("idx/t10k-images-idx3-ubyte", images);
  put("idx/t10k-labels-idx1-ubyte", labels);
  read_all(scratch() / "idx", DatasetKind::idx);
}
void parse_idx_images(const std::string& bytes) { parse_idx(bytes, idx_labels()); }
void parse_idx_labels(const std::string& bytes) { parse_idx(idx_images(), bytes); }
std::vector<std::string> idx_image_seeds() { return {idx_images(), gzipped(idx_images())}; }
std::vector<std::string> idx_label_seeds() { return {idx_labels(), gzipped(idx_labels())}; }

void parse_cifar(const std::string& bytes) {
  put("cifar/test_batch.bin", bytes);
  read_all(scratch() / "cifar", DatasetKind::cifar);
}
std::vector<std::string> cifar_seeds() {
  return {'\3' + std::string(3072, 'x') + '\7' + std::string(3072, 'y')};
}

void parse_tar(const std::string& bytes) {
  put("tar/val/0.tar", bytes);
  read_all(scratch() / "tar", DatasetKind::tar);
}
std::string tar_image() { return bytes_of(fs::path(FAQ_TEST_FIXTURES) / "images" / "bilevel.png"); }
std::vector<std::string> tar_seeds() {
  const std::string image = tar_image();
  return {tar({{"cat/1.png", image}, {"dog/2.png", image}}),
          tar({{"val/", "", '5'}, {"val/cat/1.png", image}, {"val/cat/1.cls", "0"}})};
}

// --- texts of a data set that another process has searched (DatasetOptions::once)

Once replayed(std::vector<std::string> texts) {
  return [texts = std::move(texts), next = std::size_t{0}](const auto&) mutable { return texts.at(next++); };
}

std::vector<std::string> opening_texts(const fs::path& folder) {
  std::vector<std::string> texts;
  const Once recorded = [&](const std::function<std::string()>& make) { return texts.emplace_back(make()); };
  open_dataset({.path = folder, .once = recorded}, Split::val);
  return texts;
}

// `layout` is the first of the folder's opening texts, `text` stands for the last.
void parse_index(const fs::path& folder, const std::string& layout, const std::string& text) {
  try {
    const auto dataset = open_dataset({.path = folder, .once = replayed({layout, text})}, Split::val);
    for (std::int64_t i = 0; i < std::min<std::int64_t>(dataset->size(), 16); ++i) dataset->image(i);
  } catch (const Error& error) {
    // A name that another file or none has.
    check(error.kind() != ErrorKind::missing_input, ErrorKind::bad_data, error.what());
    throw;
  }
}

fs::path indexed_folder() {
  static const fs::path file = put("indexed/val/cat/1.png", tar_image());
  return scratch() / "indexed";
}
fs::path indexed_shards() {
  static const fs::path file = put("indexed_shards/val/0.tar", tar_seeds().front());
  return scratch() / "indexed_shards";
}
void parse_folder_index(const std::string& text) {
  static const std::string layout = opening_texts(indexed_folder()).front();
  parse_index(indexed_folder(), layout, text);
}
void parse_tar_index(const std::string& text) {
  static const std::string layout = opening_texts(indexed_shards()).front();
  parse_index(indexed_shards(), layout, text);
}
std::vector<std::string> folder_index_seeds() { return {opening_texts(indexed_folder()).back()}; }
std::vector<std::string> tar_index_seeds() { return {opening_texts(indexed_shards()).back()}; }

void parse_labels(const std::string& text) { read_labels(put("labels", text)); }
std::vector<std::string> label_seeds() {
  return {"a.jpg cat\nb c.jpg\tdog\r\nd,1\n",
          "ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 2 3 4 \n"};
}

// --- JSON

void parse_config(const std::string& text) { check_options(assemble(parse_json(text, "config"), {})); }
std::vector<std::string> config_seeds() {
  return {
      to_json(assemble(json::object(), {{"preset", "faq-4bit"}})).dump(),
      R"({"preset": "dfp-ternary", "layer-bits": "a=2,8 b*=4,4", "mean": "0.5,0.5,0.5", "phase-epochs": "1,3"})"};
}

void parse_progress(const std::string& text) { progress_in({{"progress", text}}, "checkpoint"); }
std::vector<std::string> progress_seeds() {
  Progress progress;
  progress.history.push_back({{"epoch", 0}, {"top1", 12.5}, {"top5", 50}, {"val_loss", 2.25}});
  return {to_json(progress).dump()};
}

// --- the files of a run, as a page about it reads them

std::vector<std::string> summary_seeds() {
  return {"epoch,train_loss,val_loss,top1,top5,lr\n0,,1.5,12.5,50,\n1,0.25,0.5,75,100,0.05\n"};
}
std::vector<std::string> metrics_seeds() {
  return {"{\"epoch\":0.5,\"lr\":0.05,\"step\":1,\"train_loss\":2.5}\n{\"epoch\":1,\"val_loss\":0.5}\n"};
}
std::vector<std::string> details_seeds() {
  return {R"({"format":1,"stages":[{"name":"float","top1":12.5,"bytes":100}],"layers":[{"name":"conv1"}],)"
          R"("mistakes":[],"notes":["gone"],"confusion":{"classes":["a"],"cells":[[0,0,2]]}})"};
}

// One file of a run is `text`, the others are as they should be.
void parse_run_file(const std::string& name, const std::string& text) {
  const std::string folder = "run of " + name + "/";
  for (const auto& [file, content] :
       {std::pair("run.json", std::string("{}")), std::pair("config.json", std::string("{}")),
        std::pair("summary.csv", summary_seeds().front()),
        std::pair("metrics.jsonl", metrics_seeds().front())})
    if (name != file && !fs::exists(scratch() / (folder + file))) put(folder + file, content);
  report_page({read_run(put(folder + name, text).parent_path())});
}
void parse_summary(const std::string& text) { parse_run_file("summary.csv", text); }
void parse_metrics(const std::string& text) { parse_run_file("metrics.jsonl", text); }
void parse_details(const std::string& text) { parse_run_file("report.json", text); }

constexpr Parser table[] = {
    {"safetensors", parse_tensors, tensor_seeds},
    {"integer_network", parse_network, network_seeds},
    {"network_description", parse_description, description_seeds},
    {"network_preprocessing", parse_images_of_network, images_of_network_seeds},
    {"jpeg", parse_image, jpeg_seeds},
    {"png", parse_image, png_seeds},
    {"idx_images", parse_idx_images, idx_image_seeds},
    {"idx_labels", parse_idx_labels, idx_label_seeds},
    {"cifar", parse_cifar, cifar_seeds},
    {"tar", parse_tar, tar_seeds},
    {"folder_index", parse_folder_index, folder_index_seeds},
    {"tar_index", parse_tar_index, tar_index_seeds},
    {"labels", parse_labels, label_seeds},
    {"config", parse_config, config_seeds},
    {"progress", parse_progress, progress_seeds},
    {"run_summary", parse_summary, summary_seeds},
    {"run_metrics", parse_metrics, metrics_seeds},
    {"run_details", parse_details, details_seeds},
};

}  // namespace

std::span<const Parser> parsers() { return table; }

bool refuses(const Parser& parser, const std::string& bytes) {
  try {
    parser.parse(bytes);
    return false;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::bad_data && error.kind() != ErrorKind::usage) throw;
    return true;
  }
}

}  // namespace faq::testing
