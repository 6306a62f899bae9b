// Line charts as SVG, for reports.
#pragma once

#include <string>
#include <vector>

namespace faq {

struct Chart {
  std::string title;
  std::string x_label, y_label;
  std::vector<std::string> x;  ///< one name per place, evenly spaced
  struct Series {
    std::string name;
    std::vector<double> y;  ///< as many as there are places
  };
  std::vector<Series> series;
};

/// A self-contained SVG document.
std::string to_svg(const Chart& chart);

}  // namespace faq
