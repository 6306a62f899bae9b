#include "core/file_error.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>

#include "data/dataset.h"
#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

// No file can be opened while it lives.
class NoDescriptors {
 public:
  NoDescriptors() {
    const int free = ::open("/dev/null", O_RDONLY | O_CLOEXEC);  // the lowest number that is free
    REQUIRE(free >= 0);
    ::close(free);
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    const rlimit none{static_cast<rlim_t>(free), before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  }
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

}  // namespace

TEST_CASE("the kind of error tells whose fault it is", "[files]") {
  for (const int error : {ENOENT, ENOTDIR, EACCES, EPERM, ELOOP, ENAMETOOLONG})
    CHECK(kind_of_file_error(error) == ErrorKind::missing_input);
  CHECK(kind_of_file_error(ENOMEM) == ErrorKind::out_of_memory);
  for (const int error : {EIO, ENOSPC, EDQUOT, EMFILE, ENFILE, EINTR, ESTALE})
    CHECK(kind_of_file_error(error) == ErrorKind::io);
}

TEST_CASE("what has a name", "[files]") {
  const TemporaryFolder folder;
  write_file(folder / "file", "text");
  fs::create_directory(folder / "folder");
  fs::create_symlink("nowhere", folder / "dangling");
  fs::create_symlink("circle", folder / "circle");
  fs::create_symlink("folder", folder / "link");
  const struct {
    const char* name;
    bool exists, is_folder;
  } rows[] = {{"file", true, false},    {"folder", true, true},       {"link", true, true},
              {"absent", false, false}, {"file/below", false, false}, {"dangling", false, false},
              {"circle", false, false}};
  for (const auto& row : rows) {
    INFO(row.name);
    CHECK(file_exists(folder / row.name) == row.exists);
    CHECK(folder_exists(folder / row.name) == row.is_folder);
  }
  const auto entries = entries_of(folder.path());
  REQUIRE(entries.size() == 5);
  CHECK(entries.front().path() == folder / "circle");
  CHECK(entries.back().path() == folder / "link");
  try {
    entries_of(folder / "absent");
    FAIL("it was listed");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::missing_input);
  }
}

TEST_CASE("a folder that cannot be listed is not an empty one", "[files]") {
  if (FAQ_SANITIZED) {
    WARN("the sanitizer looks at types through a pipe, for which there is no descriptor");
    return;
  }
  const TemporaryFolder folder;
  write_data_set(folder / "images", 6, 3);
  write_file(folder / "shards" / "train" / "0.tar", "");
  for (const auto& [name, kind] :
       {std::pair{"images", DatasetKind::image_folder}, {"shards", DatasetKind::tar}}) {
    INFO(name);
    const DatasetOptions options{.path = folder / name, .kind = kind};
    const NoDescriptors limit;
    try {
      open_dataset(options, Split::train);
      FAIL("it was opened");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::io);
      CHECK(std::string(error.what()).find("cannot be listed") != std::string::npos);
    }
  }
}
