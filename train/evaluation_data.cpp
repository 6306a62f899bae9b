#include "train/evaluation_data.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "core/text.h"
#include "data/names.h"
#include "train/class_match.h"
#include "train/image_sample.h"
#include "train/setup.h"

namespace faq {
namespace {

// A class the data lack would shift the numbers of all behind it.
void check_number(const Network& network, const Dataset& dataset, const std::string& path) {
  const std::vector<std::string>&names = dataset.class_names(), &known = network.preprocessing.class_names;
  if (static_cast<int>(names.size()) == network.num_classes) return;
  const std::set<std::string_view> all(known.begin(), known.end());
  const auto other =
      std::ranges::find_if(names, [&](const std::string& name) { return !all.contains(name); });
  fail(ErrorKind::usage, "data ", path, " has ", names.size(), " classes, the network ", network.num_classes,
       known.empty() || other == names.end() ? ""
                                             : concat(", none of which is '", shortened(*other, 80), "'"));
}

// The order of the classes in which a network that knows their names was trained.
ClassOrder order_of(const Network& network, ClassOrder asked) {
  const std::vector<std::string>& known = network.preprocessing.class_names;
  std::vector<std::string> natural = known;
  sort_classes(natural, ClassOrder::natural);
  return known == natural && !std::ranges::is_sorted(known) ? ClassOrder::natural : asked;
}

}  // namespace

std::string check_classes(const Network& network, const std::vector<std::string>& names,
                          const std::string& of) {
  const std::vector<std::string>& known = network.preprocessing.class_names;
  const auto [of_network, of_data] = std::ranges::mismatch(known, names);
  if (of_network == known.end()) return "";
  const std::string said = of_data == names.end() ? "" : shortened(*of_data, 80);
  if (match_classes(known, names).kind == ClassMatch::same)
    return concat("warning: classes: ", of, ": class ", of_data - names.begin(), " is '", said,
                  "', the network's is '", shortened(*of_network, 80),
                  "': numbers and names, taken to be in the same order");
  fail(ErrorKind::usage, of, ": class ", of_data - names.begin(), " is '", said, "', the network's is '",
       shortened(*of_network, 80), "'");
}

EvaluationData open_evaluation_data(const Network& network, const DataChoice& choice, int batch_size,
                                    Split split, Communicator& ranks) {
  check(!choice.data_path.empty(), ErrorKind::usage, "`data_path` is required");
  EvaluationData data;
  DatasetOptions dataset = dataset_options(choice, network.preprocessing.channels, ranks);
  dataset.class_order = order_of(network, choice.class_order);
  data.dataset = cached(open_dataset(dataset, split));
  const std::vector<std::string>& known = network.preprocessing.class_names;
  if (choice.allow_empty_classes && are_among(data.dataset->class_names(), known))
    data.dataset = with_classes(std::move(data.dataset), known);
  check_number(network, *data.dataset, choice.data_path);
  const std::string numbered =
      check_classes(network, data.dataset->class_names(), concat("data ", choice.data_path));
  const Preprocessing seen =
      preprocessing_for(network, choice, [&] { return side_of_images(*data.dataset, choice.skip_bad); });
  LoaderOptions loader;
  loader.batch_size = batch_size;
  loader.workers = choice.workers;
  loader.skip_bad = choice.skip_bad;
  loader.rank = ranks.rank();
  loader.ranks = ranks.size();
  loader.transform = {Augmentation::none, seen.height, seen.resize, seen.interpolation};
  data.loader = std::make_unique<Loader>(*data.dataset, loader);
  data.notes = data.dataset->notes();
  if (!numbered.empty()) data.notes.push_back(numbered);
  DataChoice done = choice;
  done.val_crop_size = seen.height;
  done.val_resize_size = seen.resize;
  done.interpolation = seen.interpolation;
  data.notes.push_back(text_of_preprocessing(sample_of(*data.dataset), done, Split::val));
  return data;
}

}  // namespace faq
