#include "core/kernels/windows.h"

#include <algorithm>
#include <cstring>

#include "core/division.h"
#include "core/kernels/byte_tiles.h"
#include "core/kernels/simd.h"

namespace faq::kernels {
namespace {

constexpr std::int64_t rows_read = 16;  ///< windows are read in multiples of these

const std::byte* bytes_of(const Tensor& x) { return static_cast<const std::byte*>(x.raw()); }

void copy(const std::byte* from, std::int64_t bytes, std::byte* to) {
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
}
void zero(std::byte* to, std::int64_t bytes) { std::memset(to, 0, static_cast<std::size_t>(bytes)); }

// --- lines

// Images with their borders, one behind the other: rows share the columns of zeros between them, and images
// the rows. A place is a pixel, the first that its window sees, so that neighbours' windows overlap. Places
// whose windows reach into the next row or image have no output. A line of taps lies in one row; what its
// last piece has too much is of other pixels.
class Lines : public Windows {
 public:
  // True if there are outputs at places that follow each other, and lines of taps are whole.
  static bool fit(const ConvGeometry& g) {
    const Extent window = g.window();
    return g.stride == 1 && g.dilation.width == 1 &&
           std::min(g.padding.top, g.padding.bottom) < window.height &&
           std::min(g.padding.left, g.padding.right) < window.width;
  }

  Lines(const Tensor& x, const ConvGeometry& g, const Shape& y)
      : Windows(x.dim(0) * rows_of(x, g) * columns_of(x, g), x.dim(3), offsets_of(x, g), line_of(x, g)),
        x_(x),
        padding_(g.padding),
        rows_(rows_of(x, g)),
        columns_(columns_of(x, g)),
        reach_((g.window().height - 1) * columns_ + divided_up(line_of(x, g) * byte_depth, x.dim(3))),
        y_(y) {}

  std::int64_t buffer_bytes(std::int64_t count) const override { return places_read(count) * stride(); }

  const std::byte* rows(std::int64_t first, std::int64_t count, std::byte* buffer) const override {
    const std::int64_t end = first + places_read(count);
    if (padding_ == Padding(0) && end <= places()) return bytes_of(x_) + first * stride();
    for (std::int64_t place = first; place < end;) {
      const std::int64_t column = place % columns_, length = std::min(columns_ - column, end - place);
      copy_row(place / columns_, column, length, buffer + (place - first) * stride());
      place += length;
    }
    return buffer;
  }

  void append_runs(std::int64_t first, std::int64_t count, std::vector<Run>& runs) const override {
    std::int64_t column = first % columns_, row = first / columns_ % rows_;
    std::int64_t image = first / columns_ / rows_;
    for (std::int64_t place = first; place < first + count;) {
      const std::int64_t left = first + count - place;
      const std::int64_t length = std::min(y_[2] - column, left);
      if (row < y_[1] && length > 0) append(runs, {place, length, (image * y_[1] + row) * y_[2] + column});
      place += columns_ - column;
      column = 0;
      if (++row < rows_) continue;
      row = 0;
      ++image;
    }
  }

 private:
  // Rows without a border follow each other.
  static void append(std::vector<Run>& runs, const Run& run) {
    if (!runs.empty() && runs.back().place + runs.back().count == run.place &&
        runs.back().output + runs.back().count == run.output)
      runs.back().count += run.count;
    else
      runs.push_back(run);
  }

  static std::int64_t rows_of(const Tensor& x, const ConvGeometry& g) {
    return x.dim(1) + std::max(g.padding.top, g.padding.bottom);
  }
  static std::int64_t columns_of(const Tensor& x, const ConvGeometry& g) {
    return x.dim(2) + std::max(g.padding.left, g.padding.right);
  }
  // Pieces of a line of taps.
  static std::int64_t line_of(const Tensor& x, const ConvGeometry& g) {
    return divided_up(g.kernel.width * x.dim(3), byte_depth);
  }
  static std::vector<std::int64_t> offsets_of(const Tensor& x, const ConvGeometry& g) {
    std::vector<std::int64_t> offsets;
    for (std::int64_t i = 0; i < g.kernel.height; ++i) {
      for (std::int64_t piece = 0; piece < line_of(x, g); ++piece)
        offsets.push_back(i * g.dilation.height * columns_of(x, g) * x.dim(3) + piece * byte_depth);
    }
    return offsets;
  }

  std::int64_t places_read(std::int64_t count) const { return multiple_of(rows_read, count) + reach_; }

  // Some columns of a row, counted through all images; zeros behind the last one.
  void copy_row(std::int64_t row, std::int64_t column, std::int64_t length, std::byte* to) const {
    const std::int64_t pixel = stride(), image = row / rows_, y = row % rows_ - padding_.top;
    if (image >= x_.dim(0) || y < 0 || y >= x_.dim(1)) return zero(to, length * pixel);
    const std::int64_t begin = std::clamp<std::int64_t>(padding_.left, column, column + length);
    const std::int64_t end = std::clamp<std::int64_t>(padding_.left + x_.dim(2), begin, column + length);
    zero(to, (begin - column) * pixel);
    const std::int64_t x = begin - padding_.left;
    copy(bytes_of(x_) + ((image * x_.dim(1) + y) * x_.dim(2) + x) * pixel, (end - begin) * pixel,
         to + (begin - column) * pixel);
    zero(to + (end - column) * pixel, (column + length - end) * pixel);
  }

  Tensor x_;
  Padding padding_;
  std::int64_t rows_, columns_;  ///< of an image with its border
  std::int64_t reach_;           ///< places that a window reads, or more
  Shape y_;
};

// --- patches

constexpr std::int64_t step = 64;  ///< bytes that are copied at a time, also where fewer are wanted

// Windows that see no border. Each copy may write up to a step beyond its end, where the next follows.
struct Copy {
  std::int64_t windows;
  std::int64_t from_window, to_window;  ///< bytes from one to the next
  std::int64_t lines, from_line;        ///< of a window
  std::int64_t bytes;                   ///< of a line
};

template <std::int64_t size>
[[gnu::always_inline]] inline void copy_windows_by(const std::byte* from, std::byte* to, const Copy& copy) {
  const auto [windows, from_window, to_window, lines, from_line, bytes] = copy;
  for (std::int64_t i = 0; i < windows; ++i, from += from_window, to += to_window) {
    const std::byte* line = from;
    std::byte* out = to;
    for (std::int64_t k = 0; k < lines; ++k, line += from_line, out += bytes) {
      std::memcpy(out, line, size);
      for (std::int64_t b = size; b < bytes; b += size) std::memcpy(out + b, line + b, size);
    }
  }
}

FAQ_SIMD void copy_windows(const std::byte* from, std::byte* to, const Copy& copy) {
  if (copy.bytes <= step / 2)
    return copy_windows_by<step / 2>(from, to, copy);  // as of 7×7 taps of 3 channels
  copy_windows_by<step>(from, to, copy);
}

// A copy of what each window sees ("im2col").
class Patches : public Windows {
 public:
  Patches(const Tensor& x, const ConvGeometry& g, const Shape& y)
      : Windows(y[0] * y[1] * y[2], depth_of(x, g) * byte_depth, offsets_of(depth_of(x, g)), depth_of(x, g)),
        images_(bytes_of(x)),
        geometry_(g),
        height_(x.dim(1)),
        width_(x.dim(2)),
        channels_(x.dim(3)),
        y_(y),
        end_(images_ + x.numel()) {}

  std::int64_t buffer_bytes(std::int64_t count) const override {
    return multiple_of(rows_read, count) * stride() + step;
  }

  const std::byte* rows(std::int64_t first, std::int64_t count, std::byte* buffer) const override {
    Output output{first / (y_[1] * y_[2]), first / y_[2] % y_[1], first % y_[2]};
    for (std::int64_t i = 0; i < count;) {
      std::byte* to = buffer + i * stride();
      const std::int64_t inside = copy_inside(output, count - i, to);
      if (inside == 0) copy_window(output, to);
      const std::int64_t copied = std::max<std::int64_t>(inside, 1);
      i += copied;
      output.column += copied;
      if (output.column < y_[2]) continue;
      output.column = 0;
      if (++output.row < y_[1]) continue;
      output.row = 0;
      ++output.image;
    }
    return buffer;
  }

  void append_runs(std::int64_t first, std::int64_t count, std::vector<Run>& runs) const override {
    runs.push_back({first, count, first});
  }

 private:
  struct Output {
    std::int64_t image, row, column;
  };

  static std::int64_t depth_of(const Tensor& x, const ConvGeometry& g) {
    return divided_up(g.kernel.height * g.kernel.width * x.dim(3), byte_depth);
  }
  static std::vector<std::int64_t> offsets_of(std::int64_t depth) {
    std::vector<std::int64_t> offsets;
    for (std::int64_t i = 0; i < depth; ++i) offsets.push_back(i * byte_depth);
    return offsets;
  }

  // Copies up to `most` windows from this one on that lie in one row and see no border. Returns how many.
  std::int64_t copy_inside(const Output& output, std::int64_t most, std::byte* to) const {
    const auto& [kernel, across, padding, dilation, groups] = geometry_;
    const Extent window = geometry_.window();
    const std::int64_t top = output.row * across - padding.top, left = output.column * across - padding.left;
    const std::int64_t room = width_ - window.width - left;
    if (dilation.width != 1 || top < 0 || left < 0 || top + window.height > height_ || room < 0) return 0;
    const std::int64_t from_line = dilation.height * width_ * channels_, bytes = kernel.width * channels_;
    const std::byte* from = pixel(output.image, top, left);
    const std::int64_t behind = end_ - from - (kernel.height - 1) * from_line - multiple_of(step, bytes);
    if (behind < 0) return 0;
    const std::int64_t windows = std::min({most, room / across + 1, behind / (across * channels_) + 1});
    copy_windows(from, to,
                 {.windows = windows,
                  .from_window = across * channels_,
                  .to_window = stride(),
                  .lines = kernel.height,
                  .from_line = from_line,
                  .bytes = bytes});
    return windows;
  }

  void copy_window(const Output& output, std::byte* to) const {
    const auto& [kernel, across, padding, dilation, groups] = geometry_;
    const std::int64_t top = output.row * across - padding.top, left = output.column * across - padding.left;
    for (int i = 0; i < kernel.height; ++i) {
      const std::int64_t y = top + i * dilation.height;
      const bool is_border = y < 0 || y >= height_;
      for (int j = 0; j < kernel.width;) {
        const std::int64_t x = left + j * dilation.width;
        const std::int64_t pixels = dilation.width == 1 ? kernel.width - j : 1;
        std::int64_t same = pixels;  // taps that are all in the image, or all in the border
        if (is_border || x >= width_) {
          zero(to, same * channels_);
        } else if (x < 0) {
          same = std::min(pixels, -x);
          zero(to, same * channels_);
        } else {
          same = std::min(pixels, width_ - x);
          copy(pixel(output.image, y, x), same * channels_, to);
        }
        j += static_cast<int>(same);
        to += same * channels_;
      }
    }
  }

  const std::byte* pixel(std::int64_t image, std::int64_t y, std::int64_t x) const {
    return images_ + ((image * height_ + y) * width_ + x) * channels_;
  }

  const std::byte* images_;
  ConvGeometry geometry_;
  std::int64_t height_, width_, channels_;
  Shape y_;
  const std::byte* end_;  ///< of the images
};

}  // namespace

std::unique_ptr<Windows> windows_of(const Tensor& x, const ConvGeometry& geometry, const Shape& y,
                                    float copy_cost) {
  auto patches = std::make_unique<Patches>(x, geometry, y);
  if (!Lines::fit(geometry)) return patches;
  auto lines = std::make_unique<Lines>(x, geometry, y);
  // In the time that tiles take for a row, a piece and a block of outputs. Patches fill the caches, too, for
  // which their products wait as long as for half the copy.
  const auto products = [&](const Windows& windows) {
    const std::int64_t pieces = windows.places() * std::ssize(windows.offsets());
    return static_cast<float>(pieces * divided_up(y[3], byte_block_outputs));
  };
  const auto copies = static_cast<float>(patches->places() * std::ssize(lines->offsets()));
  if (products(*lines) <= products(*patches) * (1 + copy_cost / 2) + copies * copy_cost) return lines;
  return patches;
}

}  // namespace faq::kernels
