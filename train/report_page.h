// A page about one run, or several: one HTML file that needs no other.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace faq {

/// The most runs of a page.
inline constexpr std::size_t most_runs_of_page = 24;

/// What the files of a run say, as one object: "folder", "name", "config" (config.json), "about" (run.json),
/// "epochs" (rows of summary.csv), "steps" (of metrics.jsonl, thinned out), "best" (the row of the best
/// epoch; null without rows), "phases", "details" (report.json; null where there is none) and "stages" (the
/// rows of the table). Throws missing_input when the folder, or one of the first four, is missing, and
/// bad_data when one is damaged. A last line of metrics.jsonl that a killed run has left unfinished is passed
/// over.
nlohmann::json read_run(const std::filesystem::path& folder);

/// The page of the runs that read_run() returned: of one with all details, of several their comparison, best
/// first. Throws usage for none, or more than most_runs_of_page.
std::string report_page(std::vector<nlohmann::json> runs);

/// JSON as it may stand in a <script>: nothing in it ends the element.
std::string script_json(const nlohmann::json& json);

}  // namespace faq
