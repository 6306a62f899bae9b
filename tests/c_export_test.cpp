// Integer networks as C: compiled, run, and compared bit for bit.
#include "quant/deploy/c_export.h"

#include <cerrno>
#include <cmath>
#include <limits>

#include "core/atomic_file.h"
#include "core/kernels/requantizer.h"
#include "core/text.h"
#include "quant/deploy/integer_requantize.h"
#include "tests/op_builder.h"
#include "tests/programs.h"
#include "tests/random_network.h"

using namespace faq;
using namespace faq::testing;

namespace {

// What embedded code is compiled with: nothing is left to warn of.
const Words strict{"-std=c99",          "-O1",      "-Wall",       "-Wextra", "-Wpedantic", "-Wconversion",
                   "-Wsign-conversion", "-Wshadow", "-Wcast-qual", "-Werror"};

// Compiles the files of an export and runs the test that is one of them.
void check_export(const IntegerNetwork& network, int images = 4) {
  const TemporaryFolder folder;
  const CExport written = export_c(network, folder / "c", {.test_images = images});
  const std::string program = (folder / "test").string();
  const Outcome compiled =
      run_program(FAQ_CC, strict + Words{"-o", program, written.source.string(), written.test.string()});
  INFO(compiled.err);
  REQUIRE(compiled.code == 0);
  const Outcome ran = run_program(program, {});
  INFO(ran.out);
  CHECK(ran.code == 0);
  CHECK(ran.out.starts_with(concat(images, " of ", images, " images")));
}

}  // namespace

TEST_CASE("every op is C with the same bits", "[c_export]") {
  const OneThread one_thread;
  check_export(all_ops(), 20);
}

TEST_CASE("networks of every scheme are C with the same bits", "[c_export]") {
  const OneThread one_thread;
  const Case rows[] = {
      {.size = 8},
      {.size = 9, .channels = 1, .weight_bits = 4, .act_bits = 4},
      {.size = 8, .weight_bits = 4, .act_bits = 4, .norms = Norms::ties},
      {.size = 8, .weight_bits = 3, .act_bits = 5, .first_last_bits = 6},
      {.size = 8, .weight_bits = 2, .scheme = Scheme::dfp},
      {.size = 8, .weight_bits = 4, .scheme = Scheme::dfp, .cluster_size = 7},
      {.size = 8, .weight_bits = 4, .act_bits = 4, .scheme = Scheme::dorefa},
      {.size = 8, .weight_bits = 2, .act_bits = 2, .scheme = Scheme::dorefa},
      {.size = 8,
       .weight_bits = 4,
       .act_bits = 4,
       .scheme = Scheme::lsq,
       .scale_sharing = ScaleSharing::channel},
  };
  for (const Case& c : rows) {
    INFO(c);
    const auto model = quantized_model(c);
    check_export(compile(*model, c));
  }
}

TEST_CASE("class names are in C what they are, whatever they hold", "[c_export]") {
  const OneThread one_thread;
  Preprocessing images{.height = 4, .width = 4, .channels = 1};
  images.class_names = {"\"; int x; /*",
                        "what?"
                        "?/",
                        "a\nb\tc\r\x01"
                        "7",
                        "back\\slash \\0 %s",
                        "@name@ @NAME@",
                        "caf\xe9 四",
                        "*/ // \\"};
  Builder b(4, 4, 1);
  const IntegerNetwork plain =
      b.classifier(b.global_avg_pool(b.conv(1, 2, {.kernel = 3}, {1, 8, false})), {1, 8, false}, 7);
  const IntegerNetwork network(plain.nodes(), images);
  const TemporaryFolder folder;
  const CExport written = export_c(network, folder / "c", {.name = "one"});
  const fs::path main = folder / "main.c";
  write_file(main,
             "#include <stdio.h>\n#include \"c/one.h\"\n\nint main(void)\n{\n"
             "    for (int i = 0; i < ONE_CLASSES; ++i) {\n        fputs(one_class_names[i], stdout);\n"
             "        putchar('|');\n    }\n    return 0;\n}\n");
  const std::string program = (folder / "main").string();
  const Outcome compiled =
      run_program(FAQ_CC, strict + Words{"-o", program, written.source.string(), main.string()});
  INFO(compiled.err);
  REQUIRE(compiled.code == 0);
  CHECK(run_program(program, {}).out == join(images.class_names, "|") + "|");
}

TEST_CASE("integers requantize as f32 does, however it is spread", "[c_export]") {
  struct Row {
    const char* what;
    double multiplier, bias;  // their size
    float factor;             // of a residual
    std::int64_t sums;
  };
  const Row rows[] = {
      {"as layers have them", 0x1p-9, 20, 0, 1 << 16},
      {"a residual by a power of two", 0x1p-9, 20, 0.25f, 1 << 16},
      {"a residual by any number", 0x1p-9, 20, 0.3712345f, 1 << 16},
      {"sums of 31 bits", 0x1p-24, 20, 0, 0x7fffffff},
      {"sums that make one step", 0x1p-32, 20, 0, 0x7fffffff},
      {"small multipliers", 0x1p-26, 20, 0, 1 << 26},
      {"multipliers that do nothing", 0x1p-60, 20, 0.5f, 1 << 20},
      {"multipliers that are almost zero", 0x1p-120, 20, 0, 1 << 20},
      {"a bias that is almost zero", 0x1p-9, 0x1p-100, 1, 1 << 16},
      {"a bias that clips everything", 0x1p-9, 0x1p60, 0.7f, 1 << 10},
      {"large multipliers", 4, 20, 0, 100},
  };
  constexpr std::int64_t channels = 64, pixels = 64;
  std::uint64_t salt = 0;
  for (const Row& row : rows) {
    for (const FixedPoint& format : {FixedPoint{1, 8, false}, {1, 4, false}, {1, 8, true}}) {
      INFO(row.what << ", " << format);
      kernels::Requantize params{
          .multiplier = reference::random({channels}, ++salt, -row.multiplier, row.multiplier),
          .bias = reference::random({channels}, ++salt, -row.bias, row.bias),
          .residual_multiplier = row.factor,
          .activation = Activation::identity,
          .format = format};
      const Tensor sums =
          reference::random_integers<std::int32_t>({1, 1, pixels, channels}, ++salt, -row.sums, row.sums);
      const Tensor residual =
          row.factor == 0 ? Tensor()
                          : reference::random_fixed_point({1, 1, pixels, channels}, ++salt, {1, 8, true});
      const std::vector<std::int64_t> largest(channels, row.sums);
      const IntegerRequantize integer = integer_requantize(params, largest, row.factor == 0 ? 0 : 127, "it");
      const Tensor expected = kernels::requantize(sums, residual, params);
      const auto q = reference::elements<std::int64_t>(expected);
      const auto r =
          row.factor == 0 ? std::vector<std::int64_t>(q.size()) : reference::elements<std::int64_t>(residual);
      std::int64_t wrong = 0;
      for (std::size_t i = 0; i < q.size(); ++i) {
        const std::size_t c = i % channels;
        const int shift = integer.shift[c];
        __extension__ typedef __int128 Wide;
        const Wide one = Wide(1) << shift;
        Wide z = Wide(sums.data<std::int32_t>()[i]) * integer.multiplier[c] + integer.bias[c] +
                 Wide(r[i]) * integer.residual * (Wide(1) << (shift - integer.residual_shift));
        CHECK((z < (Wide(1) << 62) && z > -(Wide(1) << 62)));
        z = std::clamp(z, integer.low * one, integer.high * one);
        // Floor, and what is left of it.
        Wide whole = z >= 0 ? z / one : -((-z + one - 1) / one);
        const Wide rest = z - whole * one;
        if (rest * 2 > one || (rest * 2 == one && whole % 2 != 0)) ++whole;
        wrong += static_cast<std::int64_t>(whole) != q[i];
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("what has no place in C is refused, and nothing is written", "[c_export]") {
  const TemporaryFolder folder;
  const IntegerNetwork network = all_ops();
  for (const char* name : {"", "1st", "a-b", "über", "a b", "x/../y"}) {
    INFO(name);
    check_error(ErrorKind::usage, "no identifier of C",
                [&] { export_c(network, folder / "c", {.name = name}); });
  }
  Builder b(8, 8, 3);
  const int dilated = b.conv(1, 4, {.kernel = 3, .dilation = 2}, {1, 8, false});
  const IntegerNetwork other = b.classifier(b.global_avg_pool(dilated), {1, 8, false}, 3);
  check_error(ErrorKind::usage, "conv 'op1'", [&] { export_c(other, folder / "c"); });
  // An extent has 16 bits.
  Builder many(8, 8, 3);
  const int pooled = many.global_avg_pool(many.conv(1, 4, {.kernel = 3}, {1, 8, false}));
  const IntegerNetwork wide = many.classifier(pooled, {1, 8, false}, 70000);
  check_error(ErrorKind::usage, "70000 has no place in C, at most 65535",
              [&] { export_c(wide, folder / "c"); });
  CHECK_FALSE(fs::exists(folder / "c"));

  kernels::Requantize params{
      .multiplier = Tensor::full({1}, 0x1.8p-62f), .bias = Tensor::full({1}, 0.5f), .format = {1, 8, false}};
  const std::vector<std::int64_t> sums{1000};
  check_error(ErrorKind::usage, "conv 'x': channel 0",
              [&] { integer_requantize(params, sums, 127, "conv 'x'"); });
}

TEST_CASE("faq-export writes C, and says what it costs", "[c_export]") {
  const TemporaryFolder folder;
  const Case small{.size = 8};
  compile(*quantized_model(small), small).save(folder / "integer.safetensors");
  const std::string file = (folder / "integer.safetensors").string(), c = (folder / "c").string();
  const Outcome done = run_program(FAQ_EXPORT, {file, "--c", c, "--c-name", "tiny", "--json"});
  INFO(done.err);
  REQUIRE(done.code == 0);
  CHECK(done.err.empty());
  CHECK(fs::exists(folder / "c" / "tiny.c"));
  CHECK(fs::exists(folder / "c" / "tiny.h"));
  CHECK_FALSE(fs::exists(folder / "c" / "tiny_test.c"));
  CHECK(done.out.find("\"arena_bytes\":") != std::string::npos);

  write_file(folder / "broken.safetensors", "no network");
  write_file(folder / "file", "");
  fs::create_directories(folder / "taken" / "network_test.c");
  const std::string inside_file = (folder / "file" / "c").string(), taken = (folder / "taken").string();
  const char* one_target = "expected one of --c, --onnx and --float-onnx";
  const Refusal rows[] = {
      {"no network", FAQ_EXPORT, {}, 64, "--weights is required"},
      {"no target", FAQ_EXPORT, {file}, 64, one_target},
      {"two targets", FAQ_EXPORT, {file, "--c", c, "--onnx", c}, 64, one_target},
      {"of a float network", FAQ_EXPORT, {file, "--c", c, "--model", "resnet20"}, 64, "no effect on --c"},
      {"name", FAQ_EXPORT, {file, "--c", c, "--c-name", "a-b"}, 64, "'a-b' is no identifier of C"},
      {"images", FAQ_EXPORT, {file, "--c", c, "--c-test", "-1"}, 64, "--c-test"},
      {"missing", FAQ_EXPORT, {"missing", "--c", c}, 66, "missing"},
      {"broken", FAQ_EXPORT, {(folder / "broken.safetensors").string(), "--c", c}, 65, "broken"},
      {"in a file", FAQ_EXPORT, {file, "--c", inside_file}, 74, "making the folder"},
      {"a folder", FAQ_EXPORT, {file, "--c", taken, "--c-test", "1"}, 74, "expected a regular file or none"},
      {"two networks", FAQ_EXPORT, {file, "other", "--c", c}, 64, "other"},
  };
  for (const Refusal& row : rows) check_refused(row);
  // No file before there is a place for all.
  CHECK(std::distance(fs::directory_iterator(taken), fs::directory_iterator()) == 1);
}

TEST_CASE("an export to C that fails leaves no new folder", "[c_export]") {
  const TemporaryFolder folder;
  const FileCalls usual = file_calls();
  for (const bool was_there : {false, true}) {
    const std::filesystem::path place = folder / (was_there ? "old" : "new");
    if (was_there) std::filesystem::create_directories(place);
    file_calls().fsync = [](int) {
      errno = ENOSPC;
      return -1;
    };
    CHECK_THROWS_WITH(export_c(all_ops(), place), Catch::Contains("No space left"));
    file_calls() = usual;
    CHECK(std::filesystem::exists(place) == was_there);
    CHECK((!was_there || std::filesystem::is_empty(place)));
  }
}
