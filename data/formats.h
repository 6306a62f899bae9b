// The layouts of data sets open_dataset() knows. A new one is a file and a row in dataset.cpp.
#pragma once

#include <memory>

#include "data/dataset.h"

namespace faq {

std::unique_ptr<Dataset> open_image_folder(const DatasetOptions& options, Split split);
std::unique_ptr<Dataset> open_idx(const DatasetOptions& options, Split split);
std::unique_ptr<Dataset> open_cifar(const DatasetOptions& options, Split split);
std::unique_ptr<Dataset> open_tar_shards(const DatasetOptions& options, Split split);

/// Whether a folder looks like the layout.
bool looks_like_image_folder(const std::filesystem::path& folder);
bool looks_like_idx(const std::filesystem::path& folder);
bool looks_like_cifar(const std::filesystem::path& folder);
bool looks_like_tar_shards(const std::filesystem::path& folder);

/// Whether a file's extension is one of those that torchvision's ImageFolder takes for images, in any case.
/// What is neither JPEG nor PNG is complained of when it is decoded, not passed over.
bool named_like_an_image(const std::filesystem::path& path);

/// Files beyond this are refused; the largest in use (EMNIST) is half a gigabyte.
inline constexpr std::int64_t max_dataset_file_bytes = std::int64_t{8} << 30;

}  // namespace faq
