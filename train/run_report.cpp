#include "train/run_report.h"

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/json.h"
#include "train/report_details.h"
#include "train/report_page.h"

namespace faq {

void RunReport::started(const RunStarted& event) {
  options_ = event.options;
  options_->output_dir = event.folder.string();
  details_ = nullptr;
}

void RunReport::epoch(const EpochDone&) {
  if (!options_) return;
  std::error_code none;  // a file that cannot be removed cannot be replaced either: finished() says so
  for (const char* name : {"report.json", "report.html"})
    std::filesystem::remove(std::filesystem::path(options_->output_dir) / name, none);
}

void RunReport::finished(const RunFinished& event) {
  if (!options_ || options_->report == ReportKind::none) return;
  const std::filesystem::path folder = options_->output_dir;
  const auto write = [&](const char* name, const std::string& text) {
    AtomicFile file(folder / name);
    file.write(text);
    file.commit();
  };
  if (options_->report == ReportKind::full && !event.result.stopped) {
    details_ = report_details(*options_, event.result, progress_, stop_);
    for (const auto& note : details_["notes"])
      progress_.warning("report.html lacks " + note.get<std::string>());
    write("report.json", json_text(details_) + "\n");
  }
  // A run that was stopped before its first evaluation has nothing to show.
  std::error_code none;
  if (!std::filesystem::exists(folder / "summary.csv", none)) return;
  try {
    write("report.html", report_page({read_run(folder)}));
  } catch (const Error& error) {  // somebody else's lines, or files that are gone: the run itself is whole
    if (error.kind() != ErrorKind::bad_data && error.kind() != ErrorKind::missing_input) throw;
    progress_.warning(concat("no report.html: ", error.what()));
  }
}

}  // namespace faq
