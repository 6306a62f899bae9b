// Training with quantization from C++: fine-tunes a pretrained network of the zoo in 4-bit integers,
// evaluates the integers and leaves the network that is deployed in OUTPUT/integer.safetensors.
//
//   fine_tune MODEL WEIGHTS DATA OUTPUT [EPOCHS]
#include <faq/faq.h>
#include <cstdio>
#include <cstdlib>

using namespace faq;

namespace {

void fine_tune(const char* model, const char* weights, const char* data, const char* output, int epochs) {
  Recipe in_four_bits = recipe("faq-4bit");
  in_four_bits.epochs = epochs;
  in_four_bits.lr = 0.01;
  in_four_bits.lr_scheduler = Schedule::cosine;

  ProgressDisplay display;
  const FineTune job{.model = {.model = model, .weights = weights},
                     .data = {.data_path = data},
                     .recipe = in_four_bits,
                     .output = {.output_dir = output}};
  const TrainResult result = job.run({.listeners = {&display}});
  std::printf("calibrated: top-1 %.2f, fine-tuned: %.2f\n", result.initial.top1, result.best.top1);

  // What was evaluated is what is deployed: the file says the same numbers again.
  const Network network = open_network({.weights = std::string(output) + "/integer.safetensors"});
  const EvaluationData images = open_evaluation_data(network, job.data);
  Scores scores;
  const Evaluation e = evaluate(network.forward, *images.loader, scores, display);
  std::printf("deployed: top-1 %.2f  loss %.4f in integers\n", e.top1, e.loss);
}

}  // namespace

int main(int argc, char** argv) {
  const int epochs = argc > 5 ? std::atoi(argv[5]) : 4;
  if (argc < 5 || argc > 6 || epochs < 1) {
    std::fprintf(stderr, "usage: fine_tune MODEL WEIGHTS DATA OUTPUT [EPOCHS]\n");
    return 64;
  }
  try {
    fine_tune(argv[1], argv[2], argv[3], argv[4], epochs);
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "fine_tune: %s\n", error.what());
    return error.exit_code();
  }
}
