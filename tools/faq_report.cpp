// faq-report: a page about one run, or several side by side.
#include <fmt/format.h>

#include <filesystem>

#include "core/atomic_file.h"
#include "core/printable.h"
#include "tools/cli.h"
#include "tools/waiting.h"
#include "train/report_page.h"

namespace faq {
namespace {

int body(int argc, char** argv) {
  cli::Parser parser("faq-report", "Makes a page about a run, or about several side by side.");
  cli::add_options(
      parser, "report",
      {{.names = "runs",
        .help = "output folders of faq-train; the option's name may be left out",
        .value = "RUN…",
        .repeatable = true},
       {"output", "the page; default: report.html in the folder of a single run, else runs.html", "FILE"}});
  const auto parsed = cli::parse(parser, argc, argv, "runs");
  if (cli::help_or_version(parser, parsed)) return 0;
  check(parsed.count("runs") > 0, ErrorKind::usage, "a run is required: the output folder of faq-train");
  const auto folders = parsed["runs"].as<std::vector<std::string>>();
  check(folders.size() <= most_runs_of_page, ErrorKind::usage, folders.size(), " runs: expected at most ",
        most_runs_of_page);
  std::filesystem::path output = "runs.html";
  if (parsed.count("output"))
    output = cli::text_of(parsed, "output");
  else if (folders.size() == 1)
    output = std::filesystem::path(folders.front()) / "report.html";
  // Of the files of a run only pages are made to be replaced.
  const std::string kind = output.extension().string();
  std::error_code none;
  check(!std::filesystem::is_regular_file(output, none) || kind == ".html" || kind == ".htm",
        ErrorKind::usage, "--output ", output, ": a file is there that is not called a page (.html)");
  std::vector<nlohmann::json> runs;
  for (const std::string& folder : folders) runs.push_back(read_run(folder));
  const std::string page = report_page(std::move(runs));
  AtomicFile file(output);
  file.write(page);
  file.commit();
  if (cli::is_on(parsed, "json"))
    cli::print_json({{"file", output.string()}, {"runs", folders.size()}, {"bytes", page.size()}});
  else
    cli::print_result(fmt::format("{}: {} run{}, {:.0f} kB\n", printable(output.string()), folders.size(),
                                  folders.size() == 1 ? "" : "s", static_cast<double>(page.size()) / 1e3));
  return 0;
}

}  // namespace
}  // namespace faq

int main(int argc, char** argv) {
  faq::cli::bound_waiting(argv);
  return faq::cli::run("faq-report", [&] { return faq::body(argc, argv); });
}
