#include "tools/completion.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "core/text.h"

namespace faq::cli {
namespace {

using Details = cxxopts::HelpOptionDetails;

std::vector<std::string> dashed_names(const Details& option) {
  std::vector<std::string> names;
  if (!option.s.empty()) names.push_back("-" + option.s);
  for (const std::string& name : option.l) names.push_back((name.size() == 1 ? "-" : "--") + name);
  return names;
}

bool takes_value(const Details& option) { return !option.is_boolean; }

// What can follow an option, as commands of bash that fill COMPREPLY; empty: nothing is known of it.
std::string values_of(const Parser& parser, const Details& option) {
  std::vector<std::string> words;
  bool files = false, folders = false;
  for (const std::string& name : option.l)
    if (const auto found = parser.choices.find(name); found != parser.choices.end()) words = found->second;
  for (const std::string& part : split(option.arg_help, '|')) {
    if (part.starts_with("FILE") || part.starts_with("IMAGE")) files = true;
    if (part == "DIR") folders = true;
    if (!part.empty() && std::ranges::all_of(part, [](unsigned char c) { return std::islower(c); }))
      words.push_back(part);
  }
  std::string commands;
  if (!words.empty()) commands += fmt::format(" offer -W '{}';", join(words, " "));
  if (files) commands += " offer -f; compopt -o filenames;";
  if (folders) commands += " offer -d; compopt -o filenames;";
  return commands;
}

// The options that are completed alike share a branch.
std::string branches(const std::map<std::string, std::vector<std::string>>& names_by_values) {
  std::string text;
  for (const auto& [values, names] : names_by_values)
    text += fmt::format("    {}){} return ;;\n", join(names, " | "), values);
  return text;
}

}  // namespace

std::string bash_completion(const Parser& parser) {
  std::vector<std::string> all;
  std::map<std::string, std::vector<std::string>> after_space, after_equals;
  std::string arguments;  // what completes an argument without a name
  for (const std::string& section : parser.groups()) {
    for (const Details& option : parser.group_help(section).options) {
      const std::vector<std::string> names = dashed_names(option);
      all.insert(all.end(), names.begin(), names.end());
      if (!takes_value(option)) continue;
      const std::string values = values_of(parser, option);
      // An option that may stand alone has its value behind "=" only.
      auto& group = (option.has_implicit ? after_equals : after_space)[values];
      group.insert(group.end(), names.begin(), names.end());
      for (const std::string& name : option.l)
        if (name.size() == 1) group.push_back("--" + name);  // taken as well
      const bool positional =
          option.is_container || std::ranges::find(option.l, parser.positional) != option.l.end();
      if (positional && values.find("-f") != std::string::npos) arguments = values;
    }
  }
  std::string function = "_" + parser.name;
  std::ranges::replace(function, '-', '_');
  std::string text = fmt::format(
      "# Completion for bash, made by {0} --help=bash; to use it: source <({0} --help=bash)\n", parser.name);
  text += function + "() {\n";
  text += R"(  local word=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD - 1]} equals=''
  COMPREPLY=()
  offer() {
    local reply
    while IFS= read -r reply; do COMPREPLY+=("$reply"); done < <(compgen "$@" -- "$word")
  }
  # --name=value is three words for bash.
  if [[ $word = = ]]; then
    word='' equals=yes
  elif [[ $option = = ]]; then
    option=${COMP_WORDS[COMP_CWORD - 2]} equals=yes
  fi
)";
  if (!after_equals.empty())
    text += "  [[ -z $equals ]] || case $option in\n" + branches(after_equals) + "  esac\n";
  text += "  case $option in\n" + branches(after_space) + "  esac\n";
  if (!arguments.empty()) text += fmt::format("  if [[ $word != -* ]]; then{} return; fi\n", arguments);
  text += fmt::format("  offer -W '{}'\n}}\ncomplete -F {} {}\n", join(all, " "), function, parser.name);
  return text;
}

}  // namespace faq::cli
