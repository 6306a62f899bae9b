// IDX, the format of MNIST and its relatives (https://yann.lecun.com/exdb/mnist): a big-endian magic number
// 0x0000'08'rank for bytes, one 32-bit extent per dimension, the values. Often gzipped.

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "core/error.h"
#include "core/file_error.h"
#include "data/file.h"
#include "data/formats.h"
#include "data/memory_dataset.h"

namespace faq {
namespace {

namespace fs = std::filesystem;

/// Reads a file, and inflates it while reading if it is gzipped.
class Input {
 public:
  explicit Input(const fs::path& file)
      : name_(file.string()), bytes_(read_file(file, max_dataset_file_bytes)) {
    gzipped_ = bytes_.size() >= 2 && bytes_[0] == std::byte{0x1F} && bytes_[1] == std::byte{0x8B};
    if (!gzipped_) return;
    if (::inflateInit2(&stream_, 15 + 16) != Z_OK) throw std::bad_alloc();
  }
  ~Input() {
    if (gzipped_) ::inflateEnd(&stream_);
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  const std::string& name() const { return name_; }
  /// The most bytes that can still come. Deflate reaches at most 1032 : 1.
  std::uint64_t at_most() const { return (bytes_.size() - position_) * (gzipped_ ? 1032ull : 1ull); }

  /// Fills `out`, or fails.
  void read(std::span<std::uint8_t> out) {
    const std::size_t n = read_some(out);
    check(n == out.size(), ErrorKind::bad_data, name_, ": truncated: expected ", out.size() - n,
          " more bytes");
  }
  std::uint32_t read_u32() {
    std::array<std::uint8_t, 4> b{};
    read(b);
    return std::uint32_t{b[0]} << 24 | std::uint32_t{b[1]} << 16 | std::uint32_t{b[2]} << 8 | b[3];
  }
  void expect_end() {
    std::array<std::uint8_t, 1> more{};
    check(read_some(more) == 0 && (!gzipped_ || ended_), ErrorKind::bad_data, name_,
          ": bytes after the last value that its header announces");
  }

 private:
  std::size_t read_some(std::span<std::uint8_t> out) {
    if (gzipped_) return inflate_some(out);
    const std::size_t n = std::min(out.size(), bytes_.size() - position_);
    if (n) std::memcpy(out.data(), bytes_.data() + position_, n);
    position_ += n;
    return n;
  }

  std::size_t inflate_some(std::span<std::uint8_t> out) {
    constexpr std::size_t most = 1u << 30;  // zlib counts in 32 bits
    std::size_t filled = 0;
    while (filled < out.size() && !ended_) {
      const std::size_t given = std::min(bytes_.size() - position_, most),
                        room = std::min(out.size() - filled, most);
      stream_.next_in = reinterpret_cast<Bytef*>(bytes_.data() + position_);
      stream_.avail_in = static_cast<uInt>(given);
      stream_.next_out = out.data() + filled;
      stream_.avail_out = static_cast<uInt>(room);
      const int status = ::inflate(&stream_, Z_NO_FLUSH);
      position_ += given - stream_.avail_in;
      filled += room - stream_.avail_out;
      if (status == Z_MEM_ERROR) throw std::bad_alloc();
      check(status != Z_BUF_ERROR, ErrorKind::bad_data, name_, ": truncated gzip file");
      check(status == Z_OK || status == Z_STREAM_END, ErrorKind::bad_data, name_,
            ": corrupt gzip file: ", stream_.msg ? stream_.msg : "inflate failed");
      if (status == Z_STREAM_END) next_member();
    }
    return filled;
  }

  /// A gzip file may consist of several concatenated gzip files.
  void next_member() {
    ended_ = position_ == bytes_.size();
    if (ended_) return;
    check(bytes_[position_] == std::byte{0x1F}, ErrorKind::bad_data, name_, ": ", bytes_.size() - position_,
          " bytes after the end of the gzip data");
    check(::inflateReset(&stream_) == Z_OK, ErrorKind::bad_data, name_, ": corrupt gzip file");
  }

  std::string name_;
  std::vector<std::byte> bytes_;
  std::size_t position_ = 0;
  bool gzipped_ = false;
  bool ended_ = false;
  z_stream stream_{};
};

struct IdxArray {
  std::array<std::uint32_t, 3> extents{1, 1, 1};
  std::vector<std::uint8_t> values;
};

IdxArray read_idx(const fs::path& file, std::uint32_t rank) {
  Input in(file);
  const std::uint32_t magic = in.read_u32(), expected = 0x0800 | rank;
  check(magic == expected, ErrorKind::bad_data, in.name(), ": expected an IDX file of bytes with ", rank,
        " dimensions (magic number ", expected, "), found magic number ", magic);
  IdxArray array;
  std::uint64_t bytes = 1;
  for (std::uint32_t i = 0; i < rank; ++i) {
    const std::uint32_t extent = in.read_u32();
    check(extent > 0, ErrorKind::bad_data, in.name(), ": dimension ", i, " is zero");
    array.extents[i] = extent;
    // Checked after each factor, so the product of two 32-bit numbers cannot overflow.
    bytes *= extent;
    check(bytes <= in.at_most() && bytes <= static_cast<std::uint64_t>(max_dataset_file_bytes),
          ErrorKind::bad_data, in.name(), ": truncated, or absurd dimensions: its header announces at least ",
          bytes, " bytes");
  }
  array.values.resize(static_cast<std::size_t>(bytes));
  in.read(array.values);
  in.expect_end();
  return array;
}

/// A file of a data set: "train-images-idx3-ubyte".
struct FileName {
  const char* split;
  const char* what;
  const char* form;
};

/// Returns the path of the file, plain or gzipped; an empty path if there is none. Some copies have a dot
/// before the form.
fs::path find(const fs::path& folder, const FileName& name) {
  for (const char* separator : {"-", "."}) {
    for (const char* suffix : {"", ".gz"}) {
      fs::path candidate = folder / concat(name.split, "-", name.what, separator, name.form, suffix);
      if (file_exists(candidate)) return candidate;
    }
  }
  return {};
}

fs::path find_or_fail(const fs::path& folder, const FileName& name) {
  fs::path found = find(folder, name);
  check(!found.empty(), ErrorKind::missing_input,
        (folder / concat(name.split, "-", name.what, "-", name.form)).string(), "[.gz]: no such file");
  return found;
}

FileName images_of(const char* split) { return {split, "images", "idx3-ubyte"}; }
FileName labels_of(const char* split) { return {split, "labels", "idx1-ubyte"}; }

const char* prefix(Split split) { return split == Split::train ? "train" : "t10k"; }

/// Class names for relatives of MNIST whose classes are not digits. They are recognised by the name of their
/// folder.
std::vector<std::string> class_names(const fs::path& folder, std::int32_t classes) {
  std::error_code ignored;
  const std::string name = fs::weakly_canonical(folder, ignored).filename().string();
  if (classes <= 10 && name.find("fashion") != name.npos)
    return {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
  return numbered_classes(std::max(classes, 10));
}

/// A label that is damaged would make a network of classes that have no images. Relatives of MNIST have ten
/// classes, whatever labels occur.
void check_labels(const std::vector<std::int32_t>& labels, const fs::path& file, bool allow_empty) {
  const std::set<std::int32_t> present(labels.begin(), labels.end());
  const std::int32_t largest = *present.rbegin();
  const auto without = largest + 1 - std::ssize(present);
  check(allow_empty || largest < 10 || without == 0, ErrorKind::bad_data, file.string(), ": ", without,
        " of the classes 0 to ", largest, " have no images; `allow_empty_classes` takes such classes");
}

}  // namespace

bool looks_like_idx(const fs::path& folder) {
  for (const Split split : {Split::train, Split::val})
    if (!find(folder, images_of(prefix(split))).empty()) return true;
  return false;
}

std::unique_ptr<Dataset> open_idx(const DatasetOptions& options, Split split) {
  const fs::path image_file = find_or_fail(options.path, images_of(prefix(split)));
  const fs::path label_file = find_or_fail(options.path, labels_of(prefix(split)));
  IdxArray images = read_idx(image_file, 3);
  const IdxArray labels = read_idx(label_file, 1);
  const auto [count, height, width] = images.extents;
  check(labels.extents[0] == count, ErrorKind::bad_data, label_file.string(), ": expected ", count,
        " labels, as many as ", image_file.string(), " has images, found ", labels.extents[0]);
  check(height <= 65535 && width <= 65535, ErrorKind::bad_data, image_file.string(), ": images of ", height,
        " x ", width, " are too large");

  MemoryImages all{static_cast<int>(height), static_cast<int>(width), 1, std::move(images.values), {}, {},
                   image_file.string()};
  all.labels.assign(labels.values.begin(), labels.values.end());
  all.class_names = class_names(options.path, 1 + *std::ranges::max_element(all.labels));
  check_labels(all.labels, label_file, options.allow_empty_classes);
  return memory_dataset(std::move(all), options.channels);
}

}  // namespace faq
