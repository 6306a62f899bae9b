// Files that say the classes of images which lie in one folder, without class folders.
#pragma once

#include <filesystem>
#include <map>
#include <string>

namespace faq {

/// Reads the class of each image, by the name of the image. The forms, found out by themselves:
/// - `IMAGE CLASS` in each line, with a space, a tab or a comma between them (Caffe's val.txt). The class is
/// a
///   name, or a number that counts from 0.
/// - Kaggle's `LOC_val_solution.csv`: `IMAGE,CLASS x y x y …` after a header.
/// Throws bad_data, with the line, for anything else: also for ILSVRC2012_validation_ground_truth.txt, whose
/// numbers count classes in an order of its own (tools/ilsvrc_labels.py writes lines of it); for an image
/// that occurs twice; for a file without lines.
std::map<std::string, std::string> read_labels(const std::filesystem::path& file);

}  // namespace faq
