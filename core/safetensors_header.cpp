#include "core/safetensors_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"

namespace faq::safetensors {
namespace {

using Json = nlohmann::json;

/// The events of the JSON parser. Anything a grammar does not expect is refused at once, so nothing that the
/// format has no use for is ever stored or nested.
class Grammar : public nlohmann::json_sax<Json> {
 public:
  explicit Grammar(const std::string& context) : context_(context) {}

  bool null() override { refuse("null"); }
  bool boolean(bool) override { refuse("a boolean"); }
  bool number_integer(std::int64_t value) override { refuse(concat("the negative number ", value)); }
  bool number_unsigned(std::uint64_t value) override { refuse(concat("the number ", value)); }
  bool number_float(double, const std::string& text) override {
    refuse(concat("the number ", text.substr(0, 40)));
  }
  bool string(std::string& text) override { refuse(concat("the string ", quoted(text))); }
  bool binary(Json::binary_t&) override { refuse("binary data"); }
  bool start_object(std::size_t) override { refuse("an object"); }
  bool start_array(std::size_t) override { refuse("an array"); }
  bool end_array() override { return true; }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    std::string cause = cause_of(error);
    if (const auto start = cause.find(": "); start != std::string::npos) cause = cause.substr(start + 2);
    fail(ErrorKind::bad_data, context_, "not valid JSON at byte ", position, ": ", cause);
  }

 protected:
  virtual std::string expected() const = 0;
  [[noreturn]] void refuse(const std::string& found) const {
    fail(ErrorKind::bad_data, context_, "expected ", expected(), ", found ", found);
  }
  const std::string& context() const { return context_; }

 private:
  std::string context_;
};

class HeaderGrammar : public Grammar {
 public:
  using Grammar::Grammar;
  Header header;

  bool start_object(std::size_t) override {
    switch (at_) {
      case At::start:
        at_ = At::top;
        return true;
      case At::tensor:
        at_ = name_ == metadata_key ? At::metadata : At::fields;
        if (at_ == At::fields) {
          require(header.entries.size() < max_tensors, "expected at most ", max_tensors,
                  " tensors, found more");
          header.entries.emplace_back().name = name_;
        }
        seen_.fill(false);
        return true;
      default:
        refuse("an object");
    }
  }

  bool key(std::string& text) override {
    if (at_ == At::top) {
      unique(names_.insert(text).second, text);
      name_ = text;
      at_ = At::tensor;
    } else if (at_ == At::metadata) {
      unique(!header.metadata.contains(text), text);
      require(header.metadata.size() < max_tensors, "expected at most ", max_tensors, " entries, found more");
      key_ = text;
      at_ = At::metadata_value;
    } else {
      const auto field = std::ranges::find(fields, text, &Field::name);
      if (field == fields.end()) fail(ErrorKind::bad_data, where(), "unknown key ", quoted(text));
      bool& seen = seen_[static_cast<std::size_t>(field - fields.begin())];
      unique(!seen, text);
      seen = true;
      at_ = field->value;
    }
    return true;
  }

  bool string(std::string& text) override {
    if (at_ == At::metadata_value) {
      header.metadata.emplace(key_, text);
      at_ = At::metadata;
    } else if (at_ == At::dtype) {
      const auto format = std::ranges::find_if(formats, [&](const Format& f) { return f.name == text; });
      if (format == formats.end()) refuse(concat("dtype ", quoted(text)));
      header.entries.back().format = &*format;
      at_ = At::fields;
    } else {
      return Grammar::string(text);
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (in_array_ || (at_ != At::shape && at_ != At::offsets)) refuse("an array");
    in_array_ = true;
    offsets_read_ = 0;
    return true;
  }

  bool number_unsigned(std::uint64_t value) override {
    if (!in_array_) return Grammar::number_unsigned(value);
    Entry& entry = header.entries.back();
    if (at_ == At::shape) {
      require(entry.rank < Shape::max_rank, "expected at most ", Shape::max_rank, " dimensions, found more");
      entry.extents[entry.rank++] = value;
    } else {
      require(offsets_read_ < 2, "expected two data_offsets, found more");
      entry.offsets[offsets_read_++] = value;
    }
    return true;
  }

  bool end_array() override {
    require(at_ != At::offsets || offsets_read_ == 2, "expected two data_offsets, found ", offsets_read_);
    in_array_ = false;
    at_ = At::fields;
    return true;
  }

  bool end_object() override {
    if (at_ == At::fields) {
      for (std::size_t i = 0; i < fields.size(); ++i)
        require(seen_[i], "expected a ", fields[i].name, ", found none");
    }
    at_ = at_ == At::top ? At::end : At::top;
    return true;
  }

 private:
  // The state of the parser: what must come next.
  enum class At { start, top, tensor, metadata, metadata_value, fields, dtype, shape, offsets, end };
  struct Field {
    const char* name;
    At value;
  };
  static constexpr std::array fields = {Field{"dtype", At::dtype}, Field{"shape", At::shape},
                                        Field{"data_offsets", At::offsets}};

  std::string where() const {
    return at_ == At::start || at_ == At::top ? context() : concat(context(), quoted(name_), ": ");
  }
  // Unlike check(), it makes the text of the place only when it is needed.
  template <class... Parts>
  void require(bool condition, const Parts&... parts) const {
    if (!condition) fail(ErrorKind::bad_data, where(), parts...);
  }
  void unique(bool first, const std::string& text) const {
    if (!first) fail(ErrorKind::bad_data, where(), "duplicate key ", quoted(text));
  }
  std::string expected() const override {
    switch (at_) {
      case At::start:
        return "a JSON object";
      case At::tensor:
        return concat("an object for ", quoted(name_));
      case At::metadata_value:
        return concat("a string for the metadata ", quoted(key_));
      case At::dtype: {
        std::string list;
        for (const Format& f : formats) list += concat(list.empty() ? "" : ", ", f.name);
        return concat("for ", quoted(name_), " a dtype among ", list);
      }
      case At::shape:
      case At::offsets:
        return concat("for ", quoted(name_),
                      in_array_ ? " whole numbers in " : " an array of whole numbers as ",
                      at_ == At::shape ? "shape" : "data_offsets");
      default:
        return "a key";  // only keys can follow here: the JSON parser ensures that
    }
  }

  At at_ = At::start;
  bool in_array_ = false;
  std::size_t offsets_read_ = 0;
  std::array<bool, 3> seen_{};
  std::string name_, key_;
  std::unordered_set<std::string> names_;
};

class ChecksumGrammar : public Grammar {
 public:
  using Grammar::Grammar;
  Checksums checksums;

  bool start_object(std::size_t) override {
    if (inside_) refuse("an object");
    return inside_ = true;
  }
  bool key(std::string& text) override {
    check(checksums.emplace(text, 0).second, ErrorKind::bad_data, context(), "duplicate key ", quoted(text));
    name_ = text;
    return true;
  }
  bool string(std::string& text) override {
    if (!inside_ || text.size() != 8 || text.find_first_not_of("0123456789abcdef") != std::string::npos)
      return Grammar::string(text);
    checksums[name_] = static_cast<std::uint32_t>(std::stoul(text, nullptr, 16));
    return true;
  }
  bool end_object() override { return true; }

 private:
  std::string expected() const override {
    return inside_ ? "8 hex digits for " + quoted(name_) : "a JSON object";
  }

  bool inside_ = false;
  std::string name_;
};

void parse(const std::string& text, Grammar& grammar, const std::string& context) {
  // The parser would take a zero byte as the end of its input.
  const std::size_t zero = text.find('\0');
  check(zero == std::string::npos, ErrorKind::bad_data, context, "not valid JSON at byte ", zero + 1,
        ": a zero byte");
  Json::sax_parse(text, &grammar);
}

}  // namespace

Shape Entry::shape() const {
  std::array<std::int64_t, Shape::max_rank> signed_extents{};
  std::ranges::copy(extents, signed_extents.begin());
  return Shape(std::span<const std::int64_t>(signed_extents.data(), rank));
}

Header parse_header(const std::string& text, const std::string& context) {
  HeaderGrammar grammar(context);
  parse(text, grammar, context);
  return std::move(grammar.header);
}

Checksums parse_checksums(const std::string& text, const std::string& context) {
  ChecksumGrammar grammar(context);
  parse(text, grammar, context);
  return std::move(grammar.checksums);
}

std::string header_text(const std::vector<Entry>& entries, const Metadata& metadata) {
  std::string text = "{";
  const auto separate = [&] { text += text.back() == '{' ? "" : ","; };
  if (!metadata.empty()) text += concat('"', metadata_key, "\":", Json(metadata).dump());
  for (const Entry& e : entries) {
    separate();
    text += Json(e.name).dump() + concat(":{\"dtype\":\"", e.format->name, "\",\"shape\":[");
    for (std::size_t i = 0; i < e.rank; ++i) text += concat(i ? "," : "", e.extents[i]);
    text += concat("],\"data_offsets\":[", e.offsets[0], ",", e.offsets[1], "]}");
  }
  return text + "}";
}

std::string checksums_text(const Checksums& checksums) {
  std::map<std::string, std::string> digits;
  for (const auto& [name, checksum] : checksums) digits[name] = hex(checksum);
  return Json(digits).dump();
}

std::string hex(std::uint32_t value) {
  std::string text(8, '0');
  for (auto digit = text.rbegin(); digit != text.rend(); ++digit, value >>= 4)
    *digit = "0123456789abcdef"[value & 15];
  return text;
}

std::string quoted(const std::string& name) {
  constexpr std::size_t longest =
      120;  // of the name as of the text, which has up to six bytes for one of the name
  std::string text = Json(name.substr(0, longest)).dump(-1, ' ', true, Json::error_handler_t::replace);
  if (name.size() <= longest && text.size() <= longest) return text;
  text.pop_back();
  return shortened(text, longest - 4) + (text.size() <= longest - 4 ? "...\"" : "\"");
}

}  // namespace faq::safetensors
