#include "tools/man_page.h"

#include <fmt/format.h>

#include <cctype>

#include "core/text.h"
#include "core/version.h"

namespace faq::cli {
namespace {

// As in docs/commands.md.
constexpr std::pair<int, const char*> exit_codes[] = {
    {0, "done"},
    {64, "usage: an option, or a combination of options"},
    {65, "bad data, weights or checkpoint"},
    {66, "missing input"},
    {70, "internal error"},
    {71, "out of memory, or of threads"},
    {74, "input/output error; a rank was lost"},
    {75,
     "stopped by a signal, after saving a checkpoint or before the first step: run again with --resume auto"},
    {76, "diverged (non-finite loss or gradient); the last good checkpoint is named"},
};

constexpr const char* programs[] = {"faq-bench", "faq-eval", "faq-export", "faq-report", "faq-train"};

// A backslash begins a command, a dash is a hyphen, and a dot or a quote begins a request at the start of a
// line.
std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '\\')
      result += "\\e";
    else if (c == '-')
      result += "\\-";
    else if (result.empty() && (c == '\'' || c == '.'))
      result += std::string("\\&") + c;
    else
      result += c;
  }
  return result;
}

std::string bold(const std::string& text) { return "\\fB" + escaped(text) + "\\fR"; }
std::string italic(const std::string& text) { return "\\fI" + escaped(text) + "\\fR"; }

std::string entry(const cxxopts::HelpOptionDetails& option) {
  std::vector<std::string> names;
  if (!option.s.empty()) names.push_back(bold("-" + option.s));
  for (const std::string& name : option.l) names.push_back(bold((name.size() == 1 ? "-" : "--") + name));
  std::string text = ".TP\n" + join(names);
  if (!option.is_boolean)
    text += option.has_implicit ? "[=" + italic(option.arg_help) + "]" : " " + italic(option.arg_help);
  std::string help = option.desc;
  if (option.has_default && !option.is_boolean && help.find("default") == std::string::npos)
    help += "; default: " + option.default_value;
  return text + "\n" + escaped(help) + "\n";
}

}  // namespace

std::string man_page(const Parser& parser) {
  std::string does = parser.does;
  does.front() = static_cast<char>(std::tolower(static_cast<unsigned char>(does.front())));
  if (does.ends_with('.')) does.pop_back();
  std::string upper = parser.name;
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  std::string text = fmt::format(".\\\" Made by {} --help=man.\n.TH {} 1 \"\" \"faq {}\" \"faq\"\n",
                                 parser.name, escaped(upper), escaped(version()));
  text += fmt::format(".SH NAME\n{} \\- {}\n", escaped(parser.name), escaped(does));
  text += fmt::format(".SH SYNOPSIS\n{} [{}]...\n", bold(parser.name), italic("OPTION"));
  text += fmt::format(
      ".SH DESCRIPTION\n{}\nResults go to the standard output, everything else to the standard error. An "
      "error is one line.\n",
      escaped(parser.does));
  text += ".SH OPTIONS\n";
  for (const std::string& section : parser.groups()) {
    text += ".SS " + escaped(section) + "\n";
    for (const auto& option : parser.group_help(section).options) text += entry(option);
  }
  text += ".SH EXIT STATUS\n";
  for (const auto& [code, meaning] : exit_codes) text += fmt::format(".TP\n{}\n{}\n", code, escaped(meaning));
  std::vector<std::string> others;
  for (const std::string other : programs)
    if (other != parser.name) others.push_back(bold(other) + "(1)");
  return text + ".SH SEE ALSO\n" + join(others) + "\n";
}

}  // namespace faq::cli
