#include "quant/deploy/integer_network.h"

#include <limits>

#include "core/allocator.h"
#include "tests/integer_reference.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("an integer network is the evaluated model, bit for bit, and what the formulas say",
          "[integer_network][isa]") {
  const OneThread one_thread;
  const Case cases[] = {
      {},
      {.weight_bits = 4, .act_bits = 4},
      {.size = 16, .weight_bits = 4, .act_bits = 4, .first_last_bits = 4},
      {.size = 16, .weight_bits = 2, .act_bits = 2},
      {.size = 16, .weight_bits = 3, .act_bits = 5, .first_last_bits = 6},
      {.size = 16, .weight_bits = 8, .act_bits = 7, .weight_scale = WeightScale::max},
      {.size = 16, .weight_bits = 2, .scheme = Scheme::dfp},
      {.size = 16, .weight_bits = 2, .act_bits = 4, .scheme = Scheme::dfp, .cluster_size = 64},
      {.size = 16, .weight_bits = 4, .first_last_bits = 4, .scheme = Scheme::dfp, .cluster_size = 1},
      {.size = 16, .weight_bits = 3, .first_last_bits = 2, .scheme = Scheme::dfp, .cluster_size = 0},
      {.size = 16, .weight_bits = 4, .act_bits = 4, .scheme = Scheme::dorefa},
      {.size = 16, .weight_bits = 2, .act_bits = 2, .scheme = Scheme::dorefa},
      {.size = 16, .weight_bits = 7, .act_bits = 8, .first_last_bits = 5, .scheme = Scheme::dorefa},
      {.size = 16, .scheme = Scheme::lsq},
      {.size = 16, .weight_bits = 4, .act_bits = 4, .scheme = Scheme::lsq},
      {.size = 16, .weight_bits = 2, .act_bits = 2, .weight_scale = WeightScale::mean, .scheme = Scheme::lsq},
      {.size = 16,
       .weight_bits = 3,
       .act_bits = 5,
       .first_last_bits = 6,
       .scheme = Scheme::lsq,
       .scale_sharing = ScaleSharing::channel},
      {.model = "resnet18",
       .size = 40,
       .weight_bits = 4,
       .act_bits = 4,
       .scheme = Scheme::lsq,
       .scale_sharing = ScaleSharing::channel},
      {.size = 16,
       .weight_bits = 4,
       .act_bits = 4,
       .layer_bits = {{"layer2.*", 8, 8}, {"layer?.0.conv1", 3, 6}, {"fc", 5, 7}}},
      {.size = 16, .weight_bits = 4, .act_bits = 4, .residual_bits = 8},
      {.model = "resnet18",
       .size = 40,
       .weight_bits = 4,
       .act_bits = 4,
       .residual_bits = 8,
       .scheme = Scheme::lsq},
      {.size = 28, .channels = 1, .classes = 7},
      {.size = 20, .channels = 1, .classes = 7, .weight_bits = 4, .act_bits = 4},
      {.size = 16, .norms = Norms::ties},
      {.size = 16, .weight_bits = 4, .act_bits = 4, .norms = Norms::ties},
      {.model = "resnet32", .size = 16, .weight_bits = 6, .act_bits = 6},
      {.model = "resnet18", .size = 40},
      {.model = "resnet18", .size = 40, .weight_bits = 4, .act_bits = 4},
      {.model = "resnet50", .size = 32, .weight_bits = 4, .act_bits = 4},
  };
  Differences all;
  for (const Case& c : cases) {
    INFO(c);
    const Differences d = check_case(c);
    all.values += d.values;
    all.near_ties += d.near_ties;
  }
  INFO(all.values << " integers, " << all.near_ties << " near a tie");
  CHECK(all.values > 1000000);
}

TEST_CASE("a network that has diverged is not saved", "[integer_network]") {
  const Case c{.size = 16};
  const auto model = quantized_model(c);
  for (auto& [name, parameter] : parameters(*model))
    if (name == "bn1.bias")
      parameter.mutable_value().mutable_data<float>()[0] = std::numeric_limits<float>::infinity();
  const IntegerNetwork network = compile(*model, c);
  const TemporaryFolder folder;
  check_error(ErrorKind::diverged, "is not finite", [&] { network.save(folder / "integer.safetensors"); });
  CHECK(!fs::exists(folder / "integer.safetensors"));
}

TEST_CASE("threads that share the images of a batch compute the same integers", "[integer_network][isa]") {
  const Case c{.size = 16};
  std::vector<Tensor> one_by_one;
  const Tensor images = images_for(c, 13);
  {
    const OneThread one_thread;
    const auto model = quantized_model(c);
    const IntegerNetwork network = compile(*model, c);
    for (std::int64_t i = 0; i < 13; ++i) one_by_one.push_back(network.forward(images.rows(i, i + 1)));
  }
  for (const int threads : {2, 3, 5}) {
    for (const Engine engine : {Engine::integer, Engine::simulated}) {
      INFO(threads << " threads");
      // A network whose caches are empty: they are filled by several threads at once.
      set_num_threads(1);
      const auto model = quantized_model(c);
      const IntegerNetwork network = compile(*model, c);
      set_num_threads(threads);
      const Tensor logits = network.forward(images, engine);
      set_num_threads(0);
      for (std::int64_t i = 0; i < 13; ++i) CHECK(same_result(logits.rows(i, i + 1), one_by_one[i]));
    }
  }
  const auto model = quantized_model(c);
  const IntegerNetwork network = compile(*model, c);
  set_num_threads(2);
  CHECK_THROWS_AS(network.forward(Tensor::zeros({8, 16, 16, 1}, DType::u8)), Error);
  set_num_threads(0);
}

TEST_CASE("a thread takes a few large images at a time", "[integer_network]") {
  const OneThread one_thread;
  Case c{.size = 16};
  const auto model = quantized_model(c);
  const IntegerNetwork network = compile(*model, c);
  c.size = 256;  // values of 2 MB at the same time
  const Tensor images = images_for(c, 20);
  const Tensor first = network.forward(images.rows(0, 1));
  reset_peak_memory();
  const std::size_t before = memory_stats().in_use;
  const Tensor logits = network.forward(images);
  const std::size_t of_image = 2 * 256 * 256 * 16;
  CHECK(memory_stats().peak - before < 15 * of_image);
  CHECK(same_result(logits.rows(0, 1), first));
  CHECK(same_result(logits, network.forward_all(images).back()));
}

TEST_CASE("an integer network survives saving, other engines and other batch sizes",
          "[integer_network][isa]") {
  const OneThread one_thread;
  const Case cases[] = {{.size = 16},
                        {.size = 16, .weight_bits = 4, .act_bits = 4},
                        {.size = 16, .weight_bits = 3, .act_bits = 2, .first_last_bits = 5},
                        {.size = 28, .channels = 1, .classes = 7, .weight_bits = 4, .act_bits = 6}};
  for (const Case& c : cases) {
    INFO(c);
    const TemporaryFolder folder;
    const auto model = quantized_model(c);
    Preprocessing seen{.height = c.size, .width = c.size, .channels = c.channels, .resize = c.size + 3};
    for (int k = 0; k < c.classes; ++k) seen.class_names.push_back(concat("Klasse \"", k, "\" ß"));
    const IntegerNetwork network = faq::compile(*model, seen);
    const Tensor images = images_for(c, 5);
    const std::vector<Tensor> results = network.forward_all(images);
    network.save(folder / "n.safetensors", {{"model", c.model}, {"note", "ü \"quoted\""}});
    const IntegerNetwork loaded = IntegerNetwork::load(folder / "n.safetensors");
    check_same_results("loaded", loaded, loaded.forward_all(images), results);
    CHECK(loaded.about() == std::map<std::string, std::string>{{"model", c.model}, {"note", "ü \"quoted\""}});
    CHECK(std::vector{loaded.height(), loaded.width(), loaded.channels()} ==
          std::vector<std::int64_t>{c.size, c.size, c.channels});
    CHECK(loaded.preprocessing() == network.preprocessing());
    const ModelInfo& info = model->info();
    seen.mean = loaded.preprocessing().mean;
    seen.std = loaded.preprocessing().std;
    CHECK(seen == loaded.preprocessing());
    if (c.channels == 3) CHECK(seen.mean == info.mean);
    CHECK(seen.std.size() == static_cast<std::size_t>(c.channels));
    CHECK(loaded.weight_bytes() == network.weight_bytes());
    loaded.save(folder / "again.safetensors", loaded.about());
    CHECK(file_bytes(folder / "again.safetensors") == file_bytes(folder / "n.safetensors"));

    REQUIRE(loaded.results().size() == results.size());
    for (std::size_t k = 0; k < results.size(); ++k)
      CHECK(loaded.results()[k].bytes() * 5 == static_cast<std::int64_t>(results[k].bytes()));
    CHECK(loaded.activation_bytes() > 0);
    // In one planned block, of this size of images and of another.
    for (const std::int64_t more : {0, 4}) {
      Case other = c;
      other.size += more;
      const Tensor batch = images_for(other, 5);
      CHECK(reference::same_bytes(loaded.forward(batch), network.forward_all(batch).back()));
    }
    check_same_results("simulated engine", network, network.forward_all(images, Engine::simulated), results);
    const auto simulated = quantized_model(c, Engine::simulated);
    check_same_results("model on the simulated engine", network, tape_values(*simulated, images), results);

    // Any batch size, and the engines again: image by image.
    const std::int64_t pixels = images.numel() / 5;
    for (const std::int64_t i : {0, 4}) {
      const Tensor one = Tensor::from<std::uint8_t>(
          {1, c.size, c.size, c.channels},
          images.span<std::uint8_t>().subspan(static_cast<std::size_t>(i * pixels), pixels));
      for (const Engine engine : {Engine::integer, Engine::simulated}) {
        const std::vector<Tensor> single = network.forward_all(one, engine);
        REQUIRE(single.size() == results.size());
        for (std::size_t k = 0; k < single.size(); ++k) {
          INFO("image " << i << ", " << network.nodes()[k].op->name);
          const auto* whole = static_cast<const std::byte*>(results[k].raw()) +
                              static_cast<std::size_t>(i) * single[k].bytes();
          CHECK(std::equal(whole, whole + single[k].bytes(), static_cast<const std::byte*>(single[k].raw())));
        }
      }
    }
  }
}

TEST_CASE("compiling wants a quantized model", "[integer_network]") {
  const OneThread one_thread;
  auto model = make_model("resnet20", {});
  initialize(*model, 1);
  check_error(ErrorKind::internal, "not quantized", [&] { faq::compile(*model, 8, 8, 3); });
  const auto quantized = quantized_model({.size = 8});
  const NoGrad no_grad;  // the caller's wish, not the compiler's
  const IntegerNetwork network = faq::compile(*quantized, 8, 8, 3);
  check_error(ErrorKind::internal, "expected u8", [&] {
    network.forward(Tensor::zeros({1, 8, 8, 1}, DType::u8));
  });
  check_error(ErrorKind::internal, "expected u8", [&] { network.forward(Tensor::zeros({1, 8, 8, 3})); });
}
