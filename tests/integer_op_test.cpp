#include "quant/deploy/integer_op.h"

#include "core/kernels/pool.h"
#include "quant/deploy/integer_format.h"
#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

TensorInfo images(std::int64_t height, std::int64_t width, const FixedPoint& format) {
  return {{1, height, width, 1}, format.is_signed ? DType::s8 : DType::u8, format};
}

TensorInfo result(const IntegerOp& op, const TensorInfo& x) { return op.result({&x, 1}); }

}  // namespace

TEST_CASE("sums over images stay within 32 bits", "[integer_op]") {
  struct Row {
    std::int64_t height, width;
    FixedPoint format;
    bool fits;
  };
  const Row rows[] = {
      {2048, 2048, {1, 8, false}, true},       {2901, 2902, {1, 8, false}, true},
      {2902, 2902, {1, 8, false}, false},      {3000, 3000, {1, 8, false}, false},
      {4096, 4096, {1, 8, true}, true},        {4096, 4130, {1, 8, true}, false},
      {1 << 15, 1 << 12, {1, 4, false}, true}, {1 << 15, 1 << 13, {1, 4, false}, false},
  };
  GlobalAvgPoolOp op;
  op.name = "avgpool";
  for (const Row& row : rows) {
    INFO(row.height << "×" << row.width << " of " << row.format);
    if (row.fits) {
      CHECK(result(op, images(row.height, row.width, row.format)).shape == Shape{1, 1});
    } else {
      check_error(ErrorKind::usage, "global_avg_pool 'avgpool'",
                  [&] { result(op, images(row.height, row.width, row.format)); });
    }
  }
}

TEST_CASE("sums of windows stay within what f32 has exactly", "[integer_op]") {
  const FixedPoint bytes{1, 8, false};
  AvgPoolOp op;
  op.name = "pool";
  op.options = {.output = 7};
  CHECK(result(op, images(1700, 1700, bytes)).shape == Shape{1, 7, 7, 1});
  check_error(ErrorKind::usage, "avg_pool 'pool'", [&] { result(op, images(1800, 1800, bytes)); });
  CHECK(result(op, images(1800, 1800, {1, 7, false})).shape == Shape{1, 7, 7, 1});
  // The largest windows with a stride of their own do not come near.
  op.options = {.kernel = 64, .stride = 64};
  CHECK(result(op, images(4096, 4096, bytes)).shape == Shape{1, 64, 64, 1});
  // And what is allowed is exact: a mean of equal numbers is that number.
  op.options = {.output = 1};
  Tensor full = Tensor::empty({1, 254, 254, 1}, DType::u8, bytes);
  for (std::uint8_t& v : full.mutable_span<std::uint8_t>()) v = 255;
  CHECK(op.run({&full, 1}, Engine::integer).span<std::uint8_t>()[0] == 255);
  check_error(ErrorKind::usage, "avg_pool 'pool'", [&] { result(op, images(255, 255, bytes)); });
}

TEST_CASE("a convolution says what memory it works in", "[integer_op]") {
  ConvOp op;
  op.name = "conv";
  op.weights.values = Tensor::zeros({4, 1, 3, 5}, DType::s8);
  op.geometry = {.stride = 1, .padding = {1, 2}};
  const TensorInfo u8 = images(10, 20, {1, 8, false}), s8 = images(10, 20, {1, 8, true});
  CHECK(op.working_bytes({&u8, 1}) == 4 * 4 * 10 * 20);
  CHECK(op.working_bytes({&s8, 1}) == 4 * 4 * 10 * 20 + 12 * 24);
  CHECK(MaxPoolOp().working_bytes({&u8, 1}) == 0);
}

TEST_CASE("a residual is multiplied by the ratio of the scales", "[integer_op]") {
  ConvOp op;
  op.name = "conv";
  op.weights.values = Tensor::zeros({1, 1, 1, 1}, DType::s8);
  op.requantize.format = {.scale = 0.25f, .bits = 8, .is_signed = false};
  const TensorInfo inputs[] = {images(2, 2, {1, 8, false}), images(2, 2, {0.5f, 8, false})};
  op.requantize.residual_multiplier = residual_multiplier(0.5f, op.requantize.format);
  CHECK(op.requantize.residual_multiplier == 2);
  CHECK(op.result(inputs).shape == Shape{1, 2, 2, 1});
  op.requantize.residual_multiplier = 1;
  check_error(ErrorKind::internal, "a residual multiplier of 1, 2 by the scales", [&] { op.result(inputs); });
}

TEST_CASE("a classifier takes sums, or integers of its own format", "[integer_op]") {
  LinearOp op;
  op.name = "fc";
  op.input = {.scale = 0.5f, .bits = 8, .is_signed = false};
  op.weights.values = Tensor::zeros({3, 2}, DType::s8);
  const auto rows = [](DType dtype, std::optional<FixedPoint> format) {
    return TensorInfo{{4, 2}, dtype, format};
  };
  CHECK(result(op, rows(DType::s32, FixedPoint{0.125f, 32, true})).shape == Shape{4, 3});
  CHECK(result(op, rows(DType::u8, op.input)).shape == Shape{4, 3});
  for (const TensorInfo& bad : {rows(DType::u8, FixedPoint{0.25f, 8, false}), rows(DType::f32, std::nullopt)})
    check_error(ErrorKind::internal, "linear 'fc': expected s32 sums", [&] { result(op, bad); });
}

TEST_CASE("what is no description of an op is bad data", "[integer_op]") {
  using nlohmann::json;
  NamedTensors none;
  std::set<std::string> used;
  for (const json& bad : {json(), json(3), json{{"name", "a"}}, json{{"name", 3}, {"kind", "conv"}},
                          json{{"name", "a"}, {"kind", json::array()}}, json{{"name", "a"}, {"kind", "conv"}},
                          json{{"name", "a"}, {"kind", "max_pool"}, {"kernel", "3"}}}) {
    INFO(bad.dump());
    check_error(ErrorKind::bad_data, "", [&] { parse_op(bad, none, used); });
  }
}

TEST_CASE("a visitor gets every op as what it is", "[integer_op]") {
  struct Kinds final : OpVisitor {
    void visit(const InputOp& op) override { seen.push_back({"input", &op}); }
    void visit(const ConvOp& op) override { seen.push_back({"conv", &op}); }
    void visit(const NormActOp& op) override { seen.push_back({"norm_act", &op}); }
    void visit(const ShortcutOp& op) override { seen.push_back({"shortcut", &op}); }
    void visit(const MaxPoolOp& op) override { seen.push_back({"max_pool", &op}); }
    void visit(const AvgPoolOp& op) override { seen.push_back({"avg_pool", &op}); }
    void visit(const ConcatOp& op) override { seen.push_back({"concat", &op}); }
    void visit(const GlobalAvgPoolOp& op) override { seen.push_back({"global_avg_pool", &op}); }
    void visit(const LinearOp& op) override { seen.push_back({"linear", &op}); }
    std::vector<std::pair<std::string, const IntegerOp*>> seen;
  };
  const InputOp input;
  const ConvOp conv;
  const NormActOp norm_act;
  const ShortcutOp shortcut;
  const MaxPoolOp max_pool;
  const AvgPoolOp avg_pool;
  const ConcatOp concat;
  const GlobalAvgPoolOp global_avg_pool;
  const LinearOp linear;
  for (const IntegerOp* op : std::initializer_list<const IntegerOp*>{
           &input, &conv, &norm_act, &shortcut, &max_pool, &avg_pool, &concat, &global_avg_pool, &linear}) {
    INFO(op->kind());
    Kinds kinds;
    op->accept(kinds);
    REQUIRE(kinds.seen.size() == 1);
    CHECK(kinds.seen[0].first == op->kind());
    CHECK(kinds.seen[0].second == op);
    const QuantizedWeights* expected = op == &conv     ? &conv.weights
                                       : op == &linear ? &linear.weights
                                                       : nullptr;
    CHECK(weights_of(*op) == expected);
    PartialOpVisitor none;
    CHECK_NOTHROW(op->accept(none));
  }
}
