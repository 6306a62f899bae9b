#include "tools/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/text.h"

namespace faq {
namespace {

constexpr double width = 860, height = 480, left = 70, right = 150, top = 40, bottom = 120;
// Okabe and Ito's palette, which the colour-blind can tell apart.
constexpr const char* colours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                   "#E69F00", "#56B4E9", "#000000"};
constexpr int ticks = 5;

std::string text_at(double x, double y, const char* anchor, const std::string& text, const char* more = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, more,
                     markup_text(text));
}

}  // namespace

std::string to_svg(const Chart& chart) {
  double low = INFINITY, high = -INFINITY;
  for (const Chart::Series& series : chart.series) {
    check(series.y.size() == chart.x.size(), "chart: ", series.y.size(), " values at ", chart.x.size(),
          " places");
    for (const double y : series.y) {
      low = std::min(low, y);
      high = std::max(high, y);
    }
  }
  if (!(low < high)) {  // nothing, or one value only
    low = std::isfinite(low) ? low - 0.5 : 0;
    high = low + 1;
  }
  const double plot_width = width - left - right, plot_height = height - top - bottom;
  const auto x_at = [&](std::size_t i) {
    const auto places = static_cast<double>(std::max<std::size_t>(chart.x.size(), 2) - 1);
    return left + plot_width * static_cast<double>(i) / places;
  };
  const auto y_at = [&](double y) { return top + plot_height * (high - y) / (high - low); };

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"{0:.0f}\" height=\"{1:.0f}\" fill=\"white\"/>\n",
      width, height);
  svg += text_at(left, top - 16, "start", chart.title, " font-weight=\"bold\"");
  for (int i = 0; i <= ticks; ++i) {
    const double y = low + (high - low) * i / ticks;
    svg +=
        fmt::format("<line x1=\"{0:.1f}\" y1=\"{2:.1f}\" x2=\"{1:.1f}\" y2=\"{2:.1f}\" stroke=\"#ddd\"/>\n",
                    left, width - right, y_at(y));
    svg += text_at(left - 6, y_at(y) + 4, "end", fmt::format("{:.4g}", y));
  }
  for (std::size_t i = 0; i < chart.x.size(); ++i) {
    const double x = x_at(i), y = height - bottom + 16;
    svg += text_at(x, y, "end", chart.x[i],
                   fmt::format(" transform=\"rotate(-45 {:.1f} {:.1f})\"", x, y).c_str());
  }
  svg += text_at(left + plot_width / 2, height - 8, "middle", chart.x_label);
  svg += text_at(18, top + plot_height / 2, "middle", chart.y_label,
                 fmt::format(" transform=\"rotate(-90 18 {:.1f})\"", top + plot_height / 2).c_str());
  for (std::size_t s = 0; s < chart.series.size(); ++s) {
    const char* colour = colours[s % std::size(colours)];
    std::string points;
    for (std::size_t i = 0; i < chart.x.size(); ++i)
      points += fmt::format("{:.1f},{:.1f} ", x_at(i), y_at(chart.series[s].y[i]));
    svg += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n", points,
                       colour);
    for (std::size_t i = 0; i < chart.x.size(); ++i)
      svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", x_at(i),
                         y_at(chart.series[s].y[i]), colour);
    const double y = top + 18 * static_cast<double>(s);
    svg += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"12\" height=\"4\" fill=\"{}\"/>\n",
                       width - right + 14, y, colour);
    svg += text_at(width - right + 32, y + 6, "start", chart.series[s].name);
  }
  return svg + "</svg>\n";
}

}  // namespace faq
