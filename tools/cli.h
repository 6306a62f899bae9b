// What the programs' command lines share.
#pragma once

#define CXXOPTS_VECTOR_DELIMITER '\0'  // names of files may hold commas
#include <cxxopts.hpp>
#include <functional>
#include <string>
#include <vector>

#include "train/options.h"

namespace faq::cli {

/// Adds the options of these rows, all names each.
void add_options(cxxopts::Options& parser, const std::vector<OptionRow>& rows);

/// The settings given on the command line, in option order, under canonical names.
std::vector<Setting> given_settings(const cxxopts::ParseResult& parsed, const std::vector<OptionRow>& rows);

/// Parses; an unknown option or a stray argument is Error(usage) that names the nearest option.
/// `positional`: an option that takes the arguments without a name; empty: none are allowed.
cxxopts::ParseResult parse(cxxopts::Options& parser, int argc, char** argv,
                           const std::string& positional = "");

/// A text file, or pipe. `what` it is, for messages. Throws missing_input, bad_data or io.
std::string read_text(const std::string& what, const std::string& file);
/// A JSON file of options, as config.json of a run. Throws missing_input, bad_data, or usage when it is no
/// object.
nlohmann::json read_config(const std::string& file);

/// "32,128": numbers from `least` up. Throws usage, naming the option.
std::vector<int> parse_counts(const std::string& option, const std::string& text, int least);

/// The command line as one would type it.
std::string command_line(int argc, char** argv);

/// Runs a program's body; prints an error as one line on stderr and returns the exit code of interfaces
/// (sysexits).
int run(const char* program, const std::function<int()>& body);

/// Writes results to stdout and makes sure they arrived; throws io otherwise.
void print_result(const std::string& text);

}  // namespace faq::cli
