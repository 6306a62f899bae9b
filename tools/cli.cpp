#include "tools/cli.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "core/error.h"
#include "core/foreign_error.h"
#include "core/json.h"
#include "core/printable.h"
#include "core/regular_file.h"
#include "core/standard_error.h"
#include "core/text.h"
#include "core/version.h"
#include "tools/completion.h"
#include "tools/hang_up.h"
#include "tools/man_page.h"
#include "tools/option_text.h"
#include "train/option_names.h"
#include "train/ranks/launcher.h"
#include "train/ranks/mpi.h"
#include "train/ranks/open_communicator.h"
#include "train/signals.h"

namespace faq::cli {
namespace {

const std::vector<std::string> help_forms{"text", "man", "bash"};

bool is_among(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

bool is_list(const OptionRow& row) { return row.field.kind == OptionField::Kind::accumulate; }

// After an option that may stand alone, a value is most likely meant for it.
[[noreturn]] void refuse_stray(const std::string& stray, int argc, char** argv) {
  std::string hint;
  for (int i = 2; i < argc; ++i) {
    const std::string before = argv[i - 1];
    if (argv[i] == stray && before.starts_with("--") && before.find('=') == std::string::npos)
      hint = concat("; a value of ", before, " is given as ", before, "=", stray);
  }
  fail(ErrorKind::usage, "unexpected argument '", stray, "'", hint);
}

// Help that does not say what happens without the option gains its default, if that is a value.
std::string with_default(const std::string& help, const nlohmann::json& value) {
  if (help.find("default") != std::string::npos || value.empty() || value == "") return help;
  return concat(help, help.empty() ? "" : "; ",
                "default: ", value.is_string() ? value.get<std::string>() : value.dump());
}

// An option that was taken for the value of the one before it; nothing, as a variable of a script that is not
// set leaves it.
void refuse_missing_values(const cxxopts::ParseResult& parsed, const std::vector<std::string>& names) {
  for (const auto& argument : parsed.arguments()) {
    const std::string& value = argument.value();
    check(!value.empty(), ErrorKind::usage, "--", argument.key(), " wants a value, found an empty one");
    check(!value.starts_with("--") || std::ranges::find(names, value.substr(2)) == names.end(),
          ErrorKind::usage, "--", argument.key(), " wants a value, found the option ", value);
  }
}

std::string dashed(const std::string& name) { return (name.size() == 1 ? "-" : "--") + name; }

std::vector<std::string> known_names(const cxxopts::Options& parser) {
  std::vector<std::string> names;
  for (const std::string& group : parser.groups()) {
    for (const auto& option : parser.group_help(group).options) {
      if (!option.s.empty()) names.push_back(option.s);
      for (const auto& name : option.l) names.push_back(name);
    }
  }
  return names;
}

std::string hint_of(const std::string& unknown, const std::vector<std::string>& names) {
  const std::string meant = suggested_option(unknown, names);
  return meant.empty() ? "--help lists all options" : concat("did you mean '", dashed(meant), "'?");
}

// The parser of arguments matches them with a regular expression that recurses for every character. No option
// needs more than the longest name of a file.
void refuse_long_arguments(int argc, char** argv) {
  constexpr std::size_t most = 4096 + 64;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    check(argument.size() <= most, ErrorKind::usage, "argument '", argument.substr(0, 40), "…' of ",
          argument.size(), " bytes: expected at most ", most);
  }
}

}  // namespace

void add_options(Parser& parser, const std::vector<OptionRow>& rows,
                 const std::map<std::string, std::string>& own) {
  const nlohmann::json defaults = to_json(TrainOptions{});
  for (const OptionRow& row : rows) {
    const OptionText& text = text_of_option(row.names.front());
    const std::string& canonical = row.names.front();
    for (const std::string& name : row.names) {
      const std::string help = name != canonical         ? "same as --" + canonical
                               : own.contains(canonical) ? own.at(canonical)
                                                         : with_default(text.help, defaults[canonical]);
      // A list's commas belong to its values, so every option is read as text and split by the table.
      const auto value = cxxopts::value<std::string>();
      if (!row.alone.empty()) value->implicit_value(row.alone);
      parser.add_options(text.section)(name, help, value, text.value);
      if (!row.field.choices.empty()) parser.choices[name] = row.field.choices;
    }
  }
}

void add_options(Parser& parser, const std::string& section, std::initializer_list<ProgramOption> options) {
  for (const ProgramOption& option : options) {
    if (!option.choices.empty()) parser.choices[option.names] = option.choices;
    if (option.value == nullptr) {
      parser.add_options(section)(option.names, option.help);
      continue;
    }
    const auto value =
        option.repeatable ? cxxopts::value<std::vector<std::string>>() : cxxopts::value<std::string>();
    if (option.preset != nullptr) value->default_value(option.preset);
    parser.add_options(section)(option.names, option.help, value, option.value);
  }
}

bool help_or_version(const Parser& parser, const cxxopts::ParseResult& parsed) {
  if (parsed.count("help")) {
    const std::string form = text_of(parsed, "help");
    check(is_among(help_forms, form), ErrorKind::usage, "--help ", form, ": expected one of ",
          join(help_forms));
    print_result(form == "man"    ? man_page(parser)
                 : form == "bash" ? bash_completion(parser)
                                  : parser.help() + "\n");
    return true;
  }
  if (is_on(parsed, "version")) {
    const std::string mpi = mpi_library();
    print_result(
        concat("faq ", version(), " (", mpi.empty() ? "without MPI" : mpi, ", revision ", revision(), ")\n"));
    return true;
  }
  return false;
}

std::vector<Setting> given_settings(const cxxopts::ParseResult& parsed, const std::vector<OptionRow>& rows) {
  std::vector<Setting> settings;
  for (const auto& argument : parsed.arguments()) {
    for (const OptionRow& row : rows) {
      for (const std::string& name : row.names) {
        if (argument.key() != name) continue;
        if (!is_list(row))
          std::erase_if(settings, [&](const Setting& s) { return s.first == row.names.front(); });
        settings.emplace_back(row.names.front(), argument.value());
      }
    }
  }
  return settings;
}

std::vector<std::string> given_names(const cxxopts::ParseResult& parsed, const std::vector<OptionRow>& rows) {
  std::vector<std::string> names;
  for (const Setting& setting : given_settings(parsed, rows)) names.push_back(setting.first);
  for (const auto& argument : parsed.arguments()) names.push_back(argument.key());
  return names;
}

cxxopts::ParseResult parse(Parser& parser, int argc, char** argv, const std::string& positional) {
  add_options(parser, "run",
              {{"json", "one JSON object on stdout instead of text"},
               {"version", "print the version and the revision in git, and with which MPI it is built"}});
  parser.add_options("run")("h,help", "print this help; man: as a man page, bash: as completion for bash",
                            cxxopts::value<std::string>()->implicit_value("text"), "FORM");
  parser.choices["help"] = help_forms;
  if (!positional.empty()) {
    parser.parse_positional({positional});
    parser.show_positional_help();
    parser.positional = positional;
  }
  refuse_long_arguments(argc, argv);
  // cxxopts knows names of one letter with one dash only.
  std::vector<std::string> texts(argv, argv + argc);
  std::vector<char*> words;
  for (std::string& text : texts) {
    const bool is_short = text.size() >= 3 && text.starts_with("--") && (text.size() == 3 || text[3] == '=');
    if (is_short) text.erase(0, 1);
    if (is_short && text.size() > 3) text.erase(2, 1);  // "-cDIR"
    words.push_back(text.data());
  }
  try {
    auto parsed = parser.parse(argc, words.data());
    refuse_missing_values(parsed, known_names(parser));
    if (!parsed.unmatched().empty()) refuse_stray(parsed.unmatched().front(), argc, argv);
    return parsed;
  } catch (const cxxopts::exceptions::no_such_option&) {
    const std::vector<std::string> names = known_names(parser);
    for (int i = 1; i < argc; ++i) {
      std::string name = argv[i];
      if (!name.starts_with("-") || name == "--" || name == "-") continue;
      name = name.substr(0, name.find('='));
      name.erase(0, name.starts_with("--") ? 2 : 1);
      if (std::ranges::find(names, name) == names.end())
        fail(ErrorKind::usage, "unknown option '", argv[i], "'; ", hint_of(name, names));
    }
    fail(ErrorKind::usage, "unknown option");
  } catch (const cxxopts::exceptions::exception& error) {
    fail(ErrorKind::usage, error.what());
  }
}

std::string read_text(const std::string& what, const std::string& file) {
  // A list of names of a million classes is shorter, and so is any file of options.
  return std::string(without_byte_order_mark(read_text_file(file, what, std::int64_t{64} << 20)));
}

TrainOptions options_from(const std::string& config_file, const std::vector<Setting>& settings) {
  const std::string source = "config " + config_file;
  const nlohmann::json config = parse_json(read_text("config", config_file), source);
  check(config.is_object(), ErrorKind::usage, source, ": expected a JSON object");
  return assemble(config, settings, source);
}

bool is_on(const cxxopts::ParseResult& parsed, const std::string& name) {
  return parsed.count(name) > 0 && parsed[name].as<bool>();
}

std::string text_of(const cxxopts::ParseResult& parsed, const std::string& option) {
  return parsed[option].as<std::string>();
}

namespace {

/// Numbers between commas; nothing when one is none, or out of range.
std::optional<std::vector<int>> parsed_counts(const std::string& text, int least, int most) {
  std::vector<int> counts;
  for (const std::string& part : split(text)) {
    int& count = counts.emplace_back(0);
    const char* end = part.data() + part.size();
    const auto [stop, error] = std::from_chars(part.data(), end, count);
    if (error != std::errc() || stop != end || count < least || count > most) return {};
  }
  return counts;
}

std::string range_text(int least, int most) {
  return most < std::numeric_limits<int>::max() ? fmt::format("from {} to {}", least, most)
                                                : fmt::format("from {} up", least);
}

}  // namespace

std::vector<int> counts_of(const cxxopts::ParseResult& parsed, const std::string& option, int least,
                           int most) {
  const auto counts = parsed_counts(text_of(parsed, option), least, most);
  check(counts.has_value(), ErrorKind::usage, "--", option, " '", text_of(parsed, option),
        "': expected numbers ", range_text(least, most));
  return *counts;
}

int count_of(const cxxopts::ParseResult& parsed, const std::string& option, int least, int most) {
  const auto counts = parsed_counts(text_of(parsed, option), least, most);
  check(counts && counts->size() == 1, ErrorKind::usage, "--", option, " '", text_of(parsed, option),
        "': expected a number ", range_text(least, most));
  return counts->front();
}

ProgressDisplay::Says says(const cxxopts::ParseResult& parsed) {
  return is_on(parsed, "quiet") ? ProgressDisplay::Says::warnings : ProgressDisplay::Says::everything;
}

std::string shell_word(const std::string& word) {
  const std::string shown = printable(word);
  if (!word.empty() && word.find_first_of(" \t\"'\\$`&|;<>()*?[]#~!{}") == std::string::npos) return shown;
  std::string text = "'";
  for (const char c : shown) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string command_line(int argc, char** argv) {
  std::vector<std::string> words;
  for (int i = 0; i < argc; ++i) words.push_back(shell_word(argv[i]));
  return join(words, " ");
}

namespace {

// True while a program's body runs.
std::atomic<bool> in_body = false;

// Nothing of ours ends the process while its body runs, and what MPI ends it with is ours. OpenMP's library
// ends it with 1 when it cannot start a thread or has no memory, after a line of its own.
[[maybe_unused]] void at_exit(int code, void* /*none*/) {
  if (in_body && code == EXIT_FAILURE) std::_Exit(static_cast<int>(ErrorKind::out_of_memory));
}

void prepare_process() {
  in_body = true;
  keep_hang_ups_ignored();
#ifdef __GLIBC__
  ::on_exit(at_exit, nullptr);
#endif
  // The first file that is opened would take the place of a closed stream, and get what is said there.
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) >= 0 || errno != EBADF) continue;
    // Results that nobody gets are an error: writing to a stream opened for reading fails.
    if (::open("/dev/null", stream == STDERR_FILENO ? O_WRONLY : O_RDONLY) != stream) break;
  }
  // A reader that went away and a limit on the size of files are errors of write(), which are reported.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  // A data set may be more tar files than the usual soft limit.
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
}

// In one line, whatever names of files and texts of other libraries it has in it.
void say(const char* program, const std::string& message) {
  write_to_stderr(fmt::format("{}: {}\n", program, printable(message, longest_message)));
}

// Passes the text of an error to `say`, and returns the exit code.
int guarded(const std::function<int()>& body, const std::function<void(const std::string&)>& say_error) {
  try {
    return body();
  } catch (const std::exception& exception) {
    const Error error = as_error(exception);
    say_error(with_options(error.what()));
    return error.exit_code();
  }
}

// Of an error the first rank speaks. As soon as one rank ends with an error, launchers end the others (Open
// MPI 5, `srun --kill-on-bad-exit`): a rank that hears of the error and is faster waits.
void let_first_rank_speak() {
  handle_stop_signals(SIG_DFL);  // of what then ends this rank, nothing is said
  std::this_thread::sleep_for(std::chrono::seconds(1));
}

// Results are those of the first rank.
void silence_stdout() {
  const int null = ::open("/dev/null", O_WRONLY);
  if (null < 0) return;
  ::dup2(null, STDOUT_FILENO);
  ::close(null);
}

}  // namespace

int run(const char* program, const std::function<int()>& body) {
  prepare_process();
  const int code = guarded(body, [program](const std::string& text) { say(program, text); });
  in_body = false;
  return code;
}

int run_on_ranks(const char* program, const std::function<int(Communicator&)>& body) {
  prepare_process();
  const auto launch = launch_of_process();
  // What the ranks have said of each other, by a thread that may outlive this function.
  struct Said {
    std::mutex mutex;
    std::string last;
  };
  const auto said = std::make_shared<Said>();
  const auto say_it = [program, said](const std::string& text) {
    const std::lock_guard lock(said->mutex);
    said->last = with_options(text);
    say(program, said->last);
  };
  std::unique_ptr<Communicator> ranks;
  ErrorKind refused = ErrorKind::internal;
  const auto open = [&] {
    try {
      ranks = open_communicator(say_it);
    } catch (const Error& error) {
      refused = error.kind();
      throw;
    }
    return 0;
  };
  const int opened = guarded(open, [&](const std::string& text) {
    // All ranks are refused alike. What else happens may happen to this one only.
    const bool alike = !launch || refused == ErrorKind::usage;
    if (!alike)
      say(program, fmt::format("rank {} of {}: {}", launch->rank, launch->size, text));
    else if (!launch || launch->rank == 0)
      say(program, text);
  });
  if (opened != 0) {
    if (launch && launch->rank != 0) let_first_rank_speak();
    std::_Exit(opened);  // MPI may be half open
  }
  if (ranks->size() > 1)
    install_stop_handlers();  // a rank that only waits does not die of a signal that stops others
  if (!ranks->is_first()) silence_stdout();
  // What the first rank hears from others, it has said already; also when all ranks have the same error.
  bool is_of_other_rank = false;
  const auto work = [&] {
    try {
      return ranks->together([&] {
        const int code = body(*ranks);
        ranks->barrier(Patience::endless);
        return code;
      });
    } catch (const RemoteError&) {
      is_of_other_rank = true;
      throw;
    }
  };
  const int code = guarded(work, [&](const std::string& text) {
    if (!ranks->is_first() || is_of_other_rank) return;
    const std::lock_guard lock(said->mutex);
    if (!said->last.ends_with(": " + text)) say(program, text);
  });
  in_body = false;
  if (!ranks->close()) {
    if (code != 0 && !ranks->is_first()) let_first_rank_speak();
    std::fflush(stdout);
    std::_Exit(code);
  }
  return code;
}

void say_one_rank_works(const std::string& task, const Communicator& ranks) {
  if (ranks.size() > 1) write_to_stderr(fmt::format("{}: 1 of {} ranks is used\n", task, ranks.size()));
}

void print_result(const std::string& text) {
  const bool written =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  check(written, ErrorKind::io, "writing results to the standard output failed");
}

void print_json(const nlohmann::json& result) { print_result(json_text(result) + "\n"); }

}  // namespace faq::cli
