#include "core/atomic_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/data_testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

std::vector<std::string> names(const TemporaryFolder& folder) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder.path()))
    found.push_back(entry.path().filename().string());
  std::ranges::sort(found);
  return found;
}

void replace(const fs::path& file, std::string_view text) {
  AtomicFile out(file);
  out.write(text.substr(0, text.size() / 2));
  out.write(text.substr(text.size() / 2));
  out.commit();
}

std::string message_of(const std::function<void()>& action, ErrorKind kind = ErrorKind::io) {
  try {
    action();
  } catch (const Error& error) {
    CHECK(error.kind() == kind);
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
    return error.what();
  }
  FAIL("expected an error");
  return {};
}

/// Replaces the system calls; while one exists, the call number `fails_at` fails with `error`.
class Faults {
 public:
  Faults(int fails_at, int error) : saved_(file_calls()) {
    state = {fails_at, error, {}, {}};
    file_calls() = {open, saved_.read, write, fsync, close, rename, unlink};
  }
  ~Faults() { file_calls() = saved_; }
  Faults(const Faults&) = delete;
  Faults& operator=(const Faults&) = delete;

  const std::vector<std::string>& calls() const { return state.calls; }
  const std::string& failed() const { return state.failed; }

 private:
  struct State {
    int fails_at;
    int error;
    std::vector<std::string> calls;
    std::string failed;
  };
  inline static State state;

  static bool fails(const char* call) {
    state.calls.emplace_back(call);
    if (static_cast<int>(state.calls.size()) - 1 != state.fails_at) return false;
    state.failed = call;
    errno = state.error;
    return true;
  }
  static int open(const char* file, int flags, mode_t mode) {
    return fails("open") ? -1 : ::open(file, flags, mode);
  }
  static ssize_t write(int descriptor, const void* bytes, std::size_t count) {
    return fails("write") ? -1 : ::write(descriptor, bytes, count);
  }
  static int fsync(int descriptor) { return fails("fsync") ? -1 : ::fsync(descriptor); }
  static int close(int descriptor) {
    const bool failing = fails("close");
    const int error = errno;
    const int result = ::close(descriptor);  // the descriptor is gone either way, as on Linux
    errno = failing ? error : errno;
    return failing ? -1 : result;
  }
  static int rename(const char* from, const char* to) { return fails("rename") ? -1 : ::rename(from, to); }
  static int unlink(const char* file) { return fails("unlink") ? -1 : ::unlink(file); }

  FileCalls saved_;
};

}  // namespace

TEST_CASE("atomic file: creates and replaces") {
  const TemporaryFolder folder;
  const fs::path file = folder / "file";
  for (const std::string_view text : {"first", "", "a longer second text"}) {
    replace(file, text);
    CHECK(contents(file) == text);
    CHECK(names(folder) == std::vector<std::string>{"file"});
  }
  struct stat status {};
  REQUIRE(stat(file.c_str(), &status) == 0);
  const mode_t mask = umask(0);
  umask(mask);
  CHECK((status.st_mode & 0777) == (0666 & ~mask));
}

TEST_CASE("atomic file: the old file stays until commit") {
  const TemporaryFolder folder;
  const fs::path file = folder / "file";
  replace(file, "old");
  {
    AtomicFile out(file);
    out.write("new");
    CHECK(contents(file) == "old");
    CHECK(names(folder) == std::vector<std::string>{".file.tmp." + std::to_string(getpid()), "file"});
  }
  CHECK(contents(file) == "old");
  CHECK(names(folder) == std::vector<std::string>{"file"});
}

TEST_CASE("atomic file: a name without folder") {
  const TemporaryFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  replace("file", "text");
  CHECK(contents("file") == "text");
  fs::current_path(before);
}

TEST_CASE("atomic file: nothing after commit") {
  const TemporaryFolder folder;
  AtomicFile out(folder / "file");
  out.commit();
  message_of([&] { out.write("more"); }, ErrorKind::internal);
  message_of([&] { out.commit(); }, ErrorKind::internal);
}

TEST_CASE("atomic file: the temporary of a killed process is no obstacle") {
  const TemporaryFolder folder;
  std::ofstream(folder / (".file.tmp." + std::to_string(getpid()))) << "left by another";
  replace(folder / "file", "text");
  CHECK(contents(folder / "file") == "text");
  CHECK(names(folder) == std::vector<std::string>{"file"});
}

TEST_CASE("atomic file: what killed processes left is removed, and nothing else") {
  const TemporaryFolder folder;
  const std::vector<std::string> kept{".file.tmp.", ".file.tmp.7x", ".tmp.7", "a.tmp.7", "file"};
  for (const std::string& name : kept) std::ofstream(folder / name) << "kept";
  for (const char* name : {".file.tmp.7", ".a.tmp.b.tmp.123456"}) std::ofstream(folder / name) << "half";
  remove_temporary_files(folder.path());
  CHECK(names(folder) == kept);
  remove_temporary_files(folder / "missing");
}

TEST_CASE("atomic file: places where no file can be written") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "folder");
  std::ofstream(folder / "file") << "text";
  fs::create_symlink("/dev/null", folder / "link");
  const std::vector<std::string> before = names(folder);
  for (const fs::path& file : {folder / "missing" / "file", folder / "file" / "file", folder / "folder",
                               folder / "folder/", folder / "link", folder / std::string(250, 'n'),
                               fs::path("/dev/full"), fs::path("/proc/file"), fs::path(""), fs::path(".")}) {
    INFO(file);
    CHECK(message_of([&] { AtomicFile out(file); }).find(file.string()) != std::string::npos);
    CHECK(names(folder) == before);
  }
  if (geteuid() != 0) {  // the superuser may write anywhere
    fs::permissions(folder / "folder", fs::perms::owner_read | fs::perms::owner_exec);
    CHECK(message_of([&] { AtomicFile out(folder / "folder" / "file"); }).find("open failed") !=
          std::string::npos);
  }
}

TEST_CASE("atomic file: any system call may fail") {
  for (const int error : {EIO, ENOSPC, EDQUOT, EINTR, EINVAL}) {
    int call = 0;
    for (bool reached = true; reached; ++call) {
      INFO("call " << call << " fails with " << error);
      const TemporaryFolder folder;
      const fs::path file = folder / "file";
      replace(file, "old");

      std::string message;
      Faults faults(call, error);
      try {
        replace(file, "new text");
      } catch (const Error& e) {
        CHECK(e.kind() == ErrorKind::io);
        message = e.what();
      }
      reached = !faults.failed().empty();
      CHECK(names(folder) == std::vector<std::string>{"file"});

      // open temporary, write, write, fsync, close, open folder, rename, fsync folder, close folder
      const bool harmless = !reached || call == 8 ||
                            (error == EINTR && (call == 1 || call == 2 || call == 4)) ||
                            (error == EINVAL && call == 7);
      CHECK(message.empty() == harmless);
      CHECK(contents(file) == (harmless || call == 7 ? "new text" : "old"));
      if (!harmless) {
        CHECK(message.find(file.string()) != std::string::npos);
        CHECK(message.find(faults.failed()) != std::string::npos);
      }
      const auto syncs = std::ranges::count(faults.calls(), "fsync");
      CHECK(syncs == (call < 3 && !harmless ? 0 : call < 7 && !harmless ? 1 : 2));  // never once more
    }
    CHECK(call == 10);
  }
}

TEST_CASE("atomic file: a failed write cannot be committed") {
  const TemporaryFolder folder;
  AtomicFile out(folder / "file");
  {
    const Faults faults(0, EIO);
    message_of([&] { out.write("text"); });
  }
  message_of([&] { out.commit(); }, ErrorKind::internal);
  CHECK(names(folder).empty());
}

TEST_CASE("atomic file: short writes are continued, writes of nothing are not") {
  const TemporaryFolder folder;
  const FileCalls saved = file_calls();
  file_calls().write = [](int descriptor, const void* bytes, std::size_t count) {
    return ::write(descriptor, bytes, std::min<std::size_t>(count, 3));
  };
  replace(folder / "file", "twenty-two characters!");
  CHECK(contents(folder / "file") == "twenty-two characters!");
  file_calls().write = [](int, const void*, std::size_t) { return ssize_t{0}; };
  message_of([&] { replace(folder / "file", "new"); });
  file_calls() = saved;
  CHECK(contents(folder / "file") == "twenty-two characters!");
  CHECK(names(folder) == std::vector<std::string>{"file"});
}

TEST_CASE("atomic file: a file-size limit is an error, not the end of the process") {
  const TemporaryFolder folder;
  const fs::path file = folder / "file";
  replace(file, "old");
  const auto write_beyond_limit = [&] {
    rlimit before{};
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    const rlimit limit{1000, before.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    const std::string message = message_of([&] { replace(file, std::string(5000, 'x')); });
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(message.find("File too large") != std::string::npos);
  };
  write_beyond_limit();
  CHECK(contents(file) == "old");
  CHECK(names(folder) == std::vector<std::string>{"file"});
}

TEST_CASE("atomic file: a process killed at any system call leaves the old or the new file") {
  for (int call = 0; call < 9; ++call) {
    const TemporaryFolder folder;
    const fs::path file = folder / "file";
    replace(file, "old");
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      static int calls_left;
      calls_left = call;
      FileCalls& table = file_calls();
      table.open = [](const char* name, int flags, mode_t mode) {
        return calls_left-- == 0 ? raise(SIGKILL) : ::open(name, flags, mode);
      };
      table.write = [](int descriptor, const void* bytes, std::size_t count) {
        return calls_left-- == 0 ? ssize_t{raise(SIGKILL)} : ::write(descriptor, bytes, count);
      };
      table.fsync = [](int descriptor) { return calls_left-- == 0 ? raise(SIGKILL) : ::fsync(descriptor); };
      table.close = [](int descriptor) { return calls_left-- == 0 ? raise(SIGKILL) : ::close(descriptor); };
      table.rename = [](const char* from, const char* to) {
        return calls_left-- == 0 ? raise(SIGKILL) : ::rename(from, to);
      };
      AtomicFile out(file);
      out.write("new ");
      out.write("text");
      out.commit();
      _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    INFO("killed at call " << call);
    CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    CHECK(contents(file) == (call <= 6 ? "old" : "new text"));
  }
}
