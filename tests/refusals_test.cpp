// What users ask for in vain: one line on stderr that names the reason, the exit code, nothing written.
#include "tests/programs.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("usage that makes no sense is refused in one line", "[cli]") {
  const TemporaryFolder folder;
  const std::string data = tiny_images().string(), out = (folder / "out").string(),
                    network = (finished_run("faq") / "integer.safetensors").string();
  const auto train = [&](const Words& more) {
    return Words{"--data-path", data, "--output-dir", out, "--epochs", "0"} + more;
  };
  write_file(folder / "config.json", R"({"epocs": 3})");
  write_file(folder / "broken.json", R"({"epochs": )");
  write_file(folder / "list.json", "[1]");
  write_file(folder / "kinds.json", R"({"epochs": {"a": 1}})");
  write_file(folder / "null.json", "null");
  write_file(folder / "deep.json",
             R"({"layer-bits": )" + std::string(200'000, '[') + std::string(200'000, ']') + "}");
  write_file(folder / "shorthand.json", R"({"bts": 4})");
  write_file(folder / "zero.json", R"({"output-dir": "a\u0000b"})");
  const auto config = [&](const char* name) { return train({"-c", (folder / name).string()}); };
  const Refusal rows[] = {
      {"unknown option", FAQ_TRAIN, train({"--epoch", "3"}), 64, "did you mean '--epochs'"},
      {"unknown option with =", FAQ_TRAIN, train({"--batchsize=3"}), 64, "did you mean '--batch-size'"},
      {"unknown option of faq-eval", FAQ_EVAL, {"--weight", "x"}, 64, "did you mean '--weights'"},
      {"a stray argument", FAQ_TRAIN, train({"stray"}), 64, "stray"},
      {"a missing value", FAQ_TRAIN, train({"--lr"}), 64, "lr"},
      {"unknown model", FAQ_TRAIN, train({"--model", "resnet21"}), 64, "did you mean 'resnet20'"},
      {"percentile not in use", FAQ_TRAIN, train({"--preset", "faq-4bit", "--calibration-percentile", "99"}),
       64, "no effect with --calibration mse"},
      {"a plan of what makes no sense", FAQ_TRAIN, train({"--dry-run", "-b", "0"}), 64, "--batch-size 0"},
      {"unknown preset", FAQ_TRAIN, train({"--preset", "faq-4bits"}), 64, "did you mean 'faq-4bit'"},
      {"unknown scheme", FAQ_TRAIN, train({"--scheme", "fag"}), 64, "did you mean 'faq'"},
      {"unknown engine",
       FAQ_EVAL,
       {"--weights", network, "--data-path", data, "--engine", "integr"},
       64,
       "did you mean 'integer'"},
      {"bits 9", FAQ_TRAIN, train({"--scheme", "faq", "--bits", "9"}), 64, "2 to 8"},
      {"bits 1", FAQ_TRAIN, train({"--scheme", "faq", "--bits", "1"}), 64, "2 to 8"},
      {"bits 4.5", FAQ_TRAIN, train({"--bits", "4.5"}), 64, "expected an integer"},
      {"layer-bits without bits", FAQ_TRAIN, train({"--scheme", "faq", "--layer-bits", "fc"}), 64,
       "PATTERN=WEIGHT_BITS"},
      {"layer-bits of 9", FAQ_TRAIN, train({"--scheme", "faq", "--layer-bits", "fc=9,4"}), 64, "2 to 8"},
      {"batch of zero", FAQ_TRAIN, train({"-b", "0"}), 64, "batch-size 0"},
      {"negative batch", FAQ_TRAIN, train({"-b", "-5"}), 64, "batch-size -5"},
      {"lr of text", FAQ_TRAIN, train({"--lr", "fast"}), 64, "expected a number"},
      {"lr nan", FAQ_TRAIN, train({"--lr", "nan"}), 64, "expected a finite number"},
      {"no data", FAQ_TRAIN, {"--output-dir", out}, 64, "--data-path is required"},
      {"no output", FAQ_TRAIN, {"--data-path", data}, 64, "--output-dir is required"},
      {"no weights", FAQ_EVAL, {"--data-path", data}, 64, "--weights is required"},
      {"too few classes", FAQ_TRAIN, train({"--num-classes", "2"}), 64, "3 classes"},
      {"two means", FAQ_TRAIN, train({"--mean", "0.5,0.5", "--std", "1,1,1"}), 64, "2 means"},
      {"a std of zero", FAQ_TRAIN, train({"--std", "0,1,1"}), 64, "standard deviation 0"},
      {"unknown option in the config", FAQ_TRAIN, config("config.json"), 64,
       "config.json: unknown option 'epocs'; did you mean 'epochs'"},
      {"config of another kind", FAQ_TRAIN, config("list.json"), 64, "JSON object"},
      {"config value of another kind", FAQ_TRAIN, config("kinds.json"), 64, "wrong kind"},
      {"config value with a zero byte", FAQ_TRAIN, config("zero.json"), 64,
       "'output-dir' has a value with a zero byte"},
      {"a switch that is neither on nor off", FAQ_TRAIN, train({"--dry-run=maybe"}), 64, "maybe"},
      {"config of nothing", FAQ_TRAIN, config("null.json"), 64, "JSON object"},
      {"config nested deeply", FAQ_TRAIN, config("deep.json"), 65, "nested deeper"},
      {"config that is a folder", FAQ_TRAIN, train({"-c", folder.path().string()}), 65, "found a folder"},
      {"nearly a shorthand", FAQ_TRAIN, config("shorthand.json"), 64, "did you mean 'bits'"},
      {"class names that are a folder",
       FAQ_EVAL,
       {"--weights", network, "--data-path", data, "--per-class", "--class-names", folder.path().string()},
       65,
       "found a folder"},
      {"a baseline of nothing",
       FAQ_EVAL,
       {"--weights", network, "--data-path", data, "--baseline", network},
       64,
       "--baseline has no effect on an evaluation"},
      {"a folder for an evaluation",
       FAQ_EVAL,
       {"--weights", network, "--data-path", data, "--output-dir", out},
       64,
       "--output-dir has no effect on an evaluation"},
      {"data to predict",
       FAQ_EVAL,
       {"--weights", network, "--data-path", data, "--predict", "a.png"},
       64,
       "--data-path has no effect on --predict"},
      {"a batch for cosines",
       FAQ_EVAL,
       {"--weights", network, "--baseline", network, "--analyze", "cosine", "-b", "3"},
       64,
       "--batch-size has no effect on --analyze cosine"},
      {"an analysis of its own",
       FAQ_EVAL,
       {"--weights", network, "--analyze", "sine"},
       64,
       "--analyze sine: expected one of cosine"},
      {"other classes than the network's",
       FAQ_EVAL,
       {"--weights", network, "--data-path", data, "--num-classes", "7"},
       64,
       "--num-classes 7: "},
      {"another mean than the network's",
       FAQ_EVAL,
       {"--weights", network, "--data-path", data, "--mean", "0,0,0"},
       64,
       "--mean, --std: "},
      {"an option for an image",
       FAQ_EVAL,
       {"--weights", network, "--predict", "--json", "a.png"},
       64,
       "--predict wants a value, found the option --json"},
      {"a variable that is not set", FAQ_TRAIN, train({"--weights", ""}), 64,
       "--weights wants a value, found an empty one"},
      {"the same with =", FAQ_TRAIN, train({"--teacher="}), 64, "--teacher wants a value, found"},
      {"an option of one letter", FAQ_TRAIN, train({"-x"}), 64, "did you mean '-"},
      {"a value without =", FAQ_TRAIN, train({"--model-ema", "0.99"}), 64,
       "a value of --model-ema is given as --model-ema=0.99"},
      {"a teacher's model alone", FAQ_TRAIN, train({"--teacher-model", "resnet20"}), 64,
       "--teacher-model has no effect with --distill none"},
      {"config cut short", FAQ_TRAIN, config("broken.json"), 65, "broken.json"},
      {"floats of integers in faq-bench",
       FAQ_BENCH,
       {"--float-dtype", "f32"},
       64,
       "--float-dtype f32 has no effect with a --scheme alone"},
      {"unknown mode of faq-bench", FAQ_BENCH, {"--mode", "training"}, 64, "expected train, infer or load"},
      {"16 bits to time", FAQ_BENCH, {"--bits", "16"}, 64, "2 to 8, or 32"},
      {"one step to time", FAQ_BENCH, {"--steps", "1"}, 64, "--steps '1'"},
      {"a scheme for floating point to time",
       FAQ_BENCH,
       {"--scheme", "lsq", "--bits", "32"},
       64,
       "--scheme lsq with --bits 32"},
      {"nothing to load", FAQ_BENCH, {"--mode", "load"}, 64, "--data-path"},
      {"data to train on without loading",
       FAQ_BENCH,
       {"--data-path", data},
       64,
       "--data-path has no effect on --mode train"},
      {"bits to load",
       FAQ_BENCH,
       {"--mode", "load", "--data-path", data, "--bits", "4"},
       64,
       "--bits has no effect on --mode load"},
      {"no such config", FAQ_TRAIN, config("absent.json"), 66, "absent.json"},
      {"no such weights", FAQ_TRAIN, train({"--weights", "absent.safetensors"}), 66, "absent.safetensors"},
      {"no such weights to evaluate",
       FAQ_EVAL,
       {"--weights", "absent.safetensors", "--data-path", data},
       66,
       "absent.safetensors"},
      {"no such data", FAQ_TRAIN, {"--data-path", "absent", "--output-dir", out}, 66, "absent"},
      {"bad split",
       FAQ_EVAL,
       {"--weights", network, "--data-path", data, "--split", "vol"},
       64,
       "expected train, val or test"},
      {"output folder that cannot be",
       FAQ_TRAIN,
       {"--data-path", data, "--epochs", "0", "--output-dir", (folder / "config.json" / "x").string()},
       74,
       "config.json"},
  };
  for (const Refusal& row : rows) check_refused(row);
  CHECK(!fs::exists(out));
}

TEST_CASE("files that cannot be used are refused in one line", "[cli]") {
  const TemporaryFolder folder;
  const fs::path run = finished_run("faq");
  const std::string data = tiny_images().string();
  const auto file = [&](const char* name) { return (folder / name).string(); };
  const std::string integer = file_bytes(run / "integer.safetensors");
  const std::string checkpoint = file_bytes(run / "last.safetensors");
  write_file(file("cut"), integer.substr(0, integer.size() / 2));
  std::string flipped = integer;
  flipped[flipped.size() - 5] ^= 1;
  write_file(file("flipped"), flipped);
  write_file(file("cut-checkpoint"), checkpoint.substr(0, checkpoint.size() - 1));
  write_file(file("text"), "these are not the weights you are looking for");
  write_file(file("empty"), "");
  NamedTensors other = read_safetensors(finished_run("none") / "best.safetensors");
  other.metadata.clear();
  write_safetensors(file("plain"), other);
  NamedTensors short_of_one = other;
  short_of_one.tensors.pop_back();
  write_safetensors(file("missing"), short_of_one);
  NamedTensors strange;
  strange.add("something", Tensor::zeros({3}));
  write_safetensors(file("strange"), strange);

  TemporaryFolder classes;
  write_data_set(classes.path(), 6, 6);
  fs::create_directories(classes / "train" / "zebra");
  fs::create_directories(classes / "val" / "zebra");
  TemporaryFolder two;
  write_data_set(two.path(), 6, 6);
  fs::remove_all(two / "train" / "down");
  fs::remove_all(two / "val" / "down");
  const auto eval = [&](const char* name, const Words& more = {}) {
    return Words{"--weights", file(name), "--data-path", data} + more;
  };
  const std::string network = (run / "integer.safetensors").string();
  const Refusal rows[] = {
      {"truncated", FAQ_EVAL, eval("cut"), 65, "cut"},
      {"flipped bit", FAQ_EVAL, eval("flipped"), 65, "flipped"},
      {"truncated checkpoint", FAQ_EVAL, eval("cut-checkpoint"), 65, "cut-checkpoint"},
      {"text", FAQ_EVAL, eval("text"), 65, "text"},
      {"empty", FAQ_EVAL, eval("empty"), 65, "empty"},
      {"text to train from",
       FAQ_TRAIN,
       {"--weights", file("text"), "--data-path", data, "--output-dir", file("out")},
       65,
       "text"},
      {"plain weights want a model", FAQ_EVAL, eval("plain"), 64, "--model is required"},
      {"a checkpoint of another model",
       FAQ_EVAL,
       {"--weights", (run / "best.safetensors").string(), "--data-path", data, "--model", "resnet32"},
       64,
       "is a resnet20"},
      {"an integer network of another model",
       FAQ_EVAL,
       {"--weights", network, "--data-path", data, "--model", "resnet32"},
       64,
       "is a resnet20"},
      {"gradients of another model",
       FAQ_EVAL,
       {"--weights", (run / "best.safetensors").string(), "--data-path", data, "--model", "resnet32",
        "--analyze", "gradient-noise"},
       64,
       "is a resnet20"},
      {"weights of another model", FAQ_EVAL, eval("plain", {"--model", "resnet32"}), 65, "missing"},
      {"a tensor is missing", FAQ_EVAL, eval("missing", {"--model", "resnet20"}), 65, "1 mismatch:"},
      {"not a network at all", FAQ_EVAL, eval("strange", {"--model", "resnet20"}), 65, "strange"},
      {"an integer network to train from",
       FAQ_TRAIN,
       {"--weights", network, "--data-path", data, "--dry-run"},
       65,
       "cannot be trained further"},
      {"class without images",
       FAQ_TRAIN,
       {"--data-path", classes.path().string(), "--output-dir", file("out")},
       65,
       "zebra"},
      {"class without images to evaluate",
       FAQ_EVAL,
       {"--weights", network, "--data-path", classes.path().string()},
       65,
       "zebra"},
      {"fewer classes than the network",
       FAQ_EVAL,
       {"--weights", network, "--data-path", two.path().string()},
       64,
       "2 classes, the network 3"},
      {"a folder of nothing",
       FAQ_EVAL,
       {"--weights", network, "--data-path", folder.path().string()},
       65,
       ""},
  };
  for (const Refusal& row : rows) check_refused(row);
}

TEST_CASE("methods that do not go together are refused", "[cli]") {
  const TemporaryFolder folder;
  const Words base{"--data-path", tiny_images().string(), "--output-dir", (folder / "run").string()};
  const Words faq{"--scheme", "faq"};
  const Refusal rows[] = {
      {"bits in floating point", FAQ_TRAIN, {"--bits", "4"}, 64, "--bits 4 has no effect in floating point"},
      {"a layer's bits in floating point", FAQ_TRAIN, {"--layer-bits", "fc=4,4"}, 64, "wants a --scheme"},
      {"residual bits in floating point", FAQ_TRAIN, {"--residual-bits", "8"}, 64, "wants a --scheme"},
      {"one residual bit", FAQ_TRAIN, faq + Words{"--residual-bits", "1"}, 64,
       "--residual-bits 1: expected 2 to 8"},
      {"residual bits without residuals", FAQ_TRAIN,
       faq + Words{"--residual-bits", "8", "--model", "vgg11_bn", "--train-crop-size", "32", "--dry-run"}, 64,
       "--residual-bits 8: the network has no residual connections"},
      {"bits beside a schedule", FAQ_TRAIN,
       faq + Words{"--bits", "2", "--bits-schedule", "8,4", "--epochs", "2"}, 64,
       "--bits 2 has no effect with --bits-schedule"},
      {"clusters of a layer's own scale", FAQ_TRAIN, faq + Words{"--cluster-size", "4"}, 64, "--scheme dfp"},
      {"floats of integers alone", FAQ_TRAIN, faq + Words{"--float-dtype", "f32"}, 64,
       "--float-dtype f32 has no effect with a --scheme alone"},
      {"the end of no ramp", FAQ_TRAIN, faq + Words{"--stochastic-tail", "0.5"}, 64,
       "--stochastic-precision"},
      {"scales held after the end", FAQ_TRAIN, faq + Words{"--hold-weight-scales", "1.5"}, 64,
       "--hold-weight-scales 1.5"},
      {"scales held in floating point", FAQ_TRAIN, {"--hold-weight-scales", "0.5"}, 64, "wants a --scheme"},
      {"the weight of no teacher", FAQ_TRAIN, faq + Words{"--distill-weight", "2"}, 64, "--distill none"},
      {"a factor that is not used", FAQ_TRAIN, {"--lr-gamma", "0.5"}, 64, "exponential or step"},
      {"steps that are not taken",
       FAQ_TRAIN,
       {"--preset", "faq-4bit", "--lr-step-size", "5"},
       64,
       "scheduler step"},
      {"a schedule with a hole", FAQ_TRAIN, faq + Words{"--bits-schedule", "8,4,"}, 64, "expected bits"},
      {"bits for no layer", FAQ_TRAIN, faq + Words{"--layer-bits", "layer9*=4,4", "--dry-run"}, 64,
       "no layer has that name"},
      {"an integer network as teacher", FAQ_TRAIN,
       faq +
           Words{"--distill", "frozen", "--teacher", (finished_run("faq") / "integer.safetensors").string()},
       65, "nor teach"},
      {"photographs too small",
       FAQ_TRAIN,
       {"--model", "alexnet", "--train-crop-size", "20", "-b", "4", "--dry-run", "--scheme", "faq"},
       64,
       "larger images are needed"},
      {"scales of channels that are not learned", FAQ_TRAIN, faq + Words{"--weight-scales", "channel"}, 64,
       "--weight-scales channel"},
      {"scales of layers that are not learned", FAQ_TRAIN, faq + Words{"--weight-scales", "layer"}, 64,
       "without --scheme lsq"},
      {"scales from means that are not learned", FAQ_TRAIN, faq + Words{"--weight-scale", "mean"}, 64,
       "only lsq does"},
      {"learned scales that are held",
       FAQ_TRAIN,
       {"--scheme", "lsq", "--hold-weight-scales", "0.5"},
       64,
       "learns scales until the end"},
      {"channels equalized to learned scales",
       FAQ_TRAIN,
       {"--scheme", "lsq", "--weight-scales", "channel", "--equalize", "channels"},
       64,
       "--scheme faq"},
      {"scales of rows",
       FAQ_TRAIN,
       {"--scheme", "lsq", "--weight-scales", "row"},
       64,
       "--weight-scales row: expected one of layer, channel"},
      {"8-bit DoReFa", FAQ_TRAIN, {"--scheme", "dorefa"}, 64, "odd integers up to 255"},
      {"8-bit clusters", FAQ_TRAIN, {"--scheme", "dfp", "--weight-bits", "8"}, 64, "4 bits or fewer"},
      {"no clusters",
       FAQ_TRAIN,
       {"--scheme", "dfp", "--weight-bits", "2", "--cluster-size", "0"},
       64,
       "--cluster-size '0'"},
      {"clusters of some",
       FAQ_TRAIN,
       {"--scheme", "dfp", "--weight-bits", "2", "--cluster-size", "most"},
       64,
       "or all"},
      {"an unknown form",
       FAQ_TRAIN,
       {"--scheme", "dfp", "--weight-bits", "2", "--ternary-scale", "best"},
       64,
       "least-squares"},
      {"equalized DoReFa",
       FAQ_TRAIN,
       {"--scheme", "dorefa", "--bits", "4", "--equalize", "channels"},
       64,
       "--scheme faq"},
      {"rising bits",
       FAQ_TRAIN,
       {"--scheme", "faq", "--bits-schedule", "4,8", "--epochs", "2"},
       64,
       "fewer bits"},
      {"the same bits",
       FAQ_TRAIN,
       {"--scheme", "faq", "--bits-schedule", "4,4", "--epochs", "2"},
       64,
       "fewer bits"},
      {"rising activations",
       FAQ_TRAIN,
       {"--scheme", "faq", "--bits-schedule", "4/4,2/8", "--epochs", "2"},
       64,
       "fewer bits"},
      {"no bits", FAQ_TRAIN, {"--scheme", "faq", "--bits-schedule", "8,x"}, 64, "expected bits from 2 to 8"},
      {"one bit", FAQ_TRAIN, {"--scheme", "faq", "--bits-schedule", "8,1"}, 64, "expected bits from 2 to 8"},
      {"a schedule beyond the scheme",
       FAQ_TRAIN,
       {"--scheme", "dfp", "--bits-schedule", "8,4"},
       64,
       "4 bits or fewer"},
      {"too few epochs",
       FAQ_TRAIN,
       {"--scheme", "faq", "--bits-schedule", "8,6,4", "--epochs", "2"},
       64,
       "fewer than the run's 3 phases"},
      {"epochs of more phases than there are",
       FAQ_TRAIN,
       {"--scheme", "faq", "--bits-schedule", "8,4", "--epochs", "6", "--phase-epochs", "1,2,3"},
       64,
       "3 numbers, the run has 2 phases"},
      {"phases longer than the run",
       FAQ_TRAIN,
       {"--scheme", "faq", "--bits-schedule", "8,4", "--epochs", "6", "--phase-epochs", "3,4"},
       64,
       "7 epochs in all, --epochs 6"},
      {"a phase of no epochs",
       FAQ_TRAIN,
       {"--scheme", "faq", "--bits-schedule", "8,4", "--epochs", "6", "--phase-epochs", "0,6"},
       64,
       "--phase-epochs 0: expected 1"},
      {"the other order", FAQ_TRAIN, {"--scheme", "faq", "--stages", "both,weights"}, 64, "weights,both"},
      {"stages of nothing", FAQ_TRAIN, {"--stages", "weights,both"}, 64, "want a --scheme"},
      {"a schedule of nothing", FAQ_TRAIN, {"--bits-schedule", "8,4"}, 64, "want a --scheme"},
      {"chances of nothing", FAQ_TRAIN, {"--stochastic-precision=0.5"}, 64, "want a --scheme"},
      {"a chance of two", FAQ_TRAIN, {"--scheme", "faq", "--stochastic-precision=2"}, 64, "expected 0 to 1"},
      {"an unknown teacher", FAQ_TRAIN, {"--distill", "thawed"}, 64, "frozen"},
  };
  for (Refusal row : rows) {
    row.arguments = base + row.arguments;
    check_refused(row);
  }
  CHECK_FALSE(fs::exists(folder / "run" / "last.safetensors"));
}
