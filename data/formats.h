// The layouts of data sets that open_dataset() knows. To add one, write a file and a row in dataset.cpp.
#pragma once

#include <memory>

#include "data/dataset.h"

namespace faq {

std::unique_ptr<Dataset> open_image_folder(const DatasetOptions& options, Split split);
std::unique_ptr<Dataset> open_idx(const DatasetOptions& options, Split split);
std::unique_ptr<Dataset> open_cifar(const DatasetOptions& options, Split split);
std::unique_ptr<Dataset> open_tar_shards(const DatasetOptions& options, Split split);

/// True if a folder looks like the layout.
bool looks_like_image_folder(const std::filesystem::path& folder);
bool looks_like_idx(const std::filesystem::path& folder);
bool looks_like_cifar(const std::filesystem::path& folder);
bool looks_like_tar_shards(const std::filesystem::path& folder);

/// Larger files are refused. The largest one in use (EMNIST) has half a gigabyte.
inline constexpr std::int64_t max_dataset_file_bytes = std::int64_t{8} << 30;

}  // namespace faq
