// What the programs' command lines share.
#pragma once

#define CXXOPTS_VECTOR_DELIMITER '\0'  // names of files may hold commas
#include <cxxopts.hpp>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "train/option_table.h"
#include "train/progress_display.h"
#include "train/ranks/communicator.h"

namespace faq::cli {

/// The options of a program, and what its help, its man page and its completion say besides them.
class Parser : public cxxopts::Options {
 public:
  Parser(const std::string& program, const std::string& sentence)
      : cxxopts::Options(program, sentence), name(program), does(sentence) {}
  std::string name;
  std::string does;                                         ///< one sentence
  std::map<std::string, std::vector<std::string>> choices;  ///< by the first name of an option
  std::string positional;  ///< the option that takes the arguments without a name; empty: none does
};

/// Adds the options of these rows, all names each. `own`: what the help says, by name, of those that have
/// another default in this program than in a run.
void add_options(Parser& parser, const std::vector<OptionRow>& rows,
                 const std::map<std::string, std::string>& own = {});

/// An option of a program that is no setting of a run. Its values are text.
struct ProgramOption {
  const char* names;  ///< "config", or "c,config"
  const char* help;
  const char* value = nullptr;   ///< what the help calls it; null: a flag
  const char* preset = nullptr;  ///< its value when it is not given; null: none
  bool repeatable = false;
  std::vector<std::string> choices = {};  ///< the values there are; empty: many
};
/// Adds these options to a section of the help.
void add_options(Parser& parser, const std::string& section, std::initializer_list<ProgramOption> options);
/// Prints what --help or --version ask for; false when neither was given.
bool help_or_version(const Parser& parser, const cxxopts::ParseResult& parsed);

/// The settings given on the command line, in option order, under canonical names.
std::vector<Setting> given_settings(const cxxopts::ParseResult& parsed, const std::vector<OptionRow>& rows);

/// The canonical names of all options given, the program's own included.
std::vector<std::string> given_names(const cxxopts::ParseResult& parsed, const std::vector<OptionRow>& rows);

/// Adds what every program has, --json, --version and --help, and parses; an unknown option or a stray
/// argument is Error(usage) that names the option that is probably meant. `positional`: an option that takes
/// the arguments without a name; empty: none are allowed.
cxxopts::ParseResult parse(Parser& parser, int argc, char** argv, const std::string& positional = "");

/// A text file. `what` it is, for messages. Throws missing_input, bad_data or io.
std::string read_text(const std::string& what, const std::string& file);
/// A JSON file of options, as config.json of a run, with settings that win over it. Throws missing_input,
/// bad_data, or usage, naming the file.
TrainOptions options_from(const std::string& config_file, const std::vector<Setting>& settings);

/// True if the switch is given; --json=false takes it back.
bool is_on(const cxxopts::ParseResult& parsed, const std::string& name);
/// The value of an option that has one, as text.
std::string text_of(const cxxopts::ParseResult& parsed, const std::string& option);
/// "32,128": numbers from `least` to `most`. Throws usage, naming the option.
std::vector<int> counts_of(const cxxopts::ParseResult& parsed, const std::string& option, int least,
                           int most = std::numeric_limits<int>::max());
/// The same of one number.
int count_of(const cxxopts::ParseResult& parsed, const std::string& option, int least,
             int most = std::numeric_limits<int>::max());

/// What an option --quiet leaves of what is said on stderr.
ProgressDisplay::Says says(const cxxopts::ParseResult& parsed);

/// A word as a shell takes it: in quotation marks if it needs them.
std::string shell_word(const std::string& word);
/// The command line as one would type it.
std::string command_line(int argc, char** argv);

/// Runs a program's body; prints an error as one line on stderr and returns the exit code of interfaces
/// (sysexits). Before that it makes the process one that no stream, pipe or limit on files can end.
int run(const char* program, const std::function<int()>& body);

/// The same for a program that mpirun or srun may start as one of several ranks. The first rank alone speaks:
/// an error of any rank ends all of them with its exit code, and the first one prints it.
/// A body may return early on the other ranks: they wait until the first one has returned.
int run_on_ranks(const char* program, const std::function<int(Communicator&)>& body);
/// Says on stderr, if there are several ranks, that `task` uses one of them.
void say_one_rank_works(const std::string& task, const Communicator& ranks);

/// Writes results to stdout and makes sure they arrived; throws io otherwise.
void print_result(const std::string& text);
/// The same of a result for --json: one line.
void print_json(const nlohmann::json& result);

}  // namespace faq::cli
