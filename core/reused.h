// A value that is kept once it has been asked for twice.
#pragma once

#include <memory>
#include <optional>
#include <utility>

namespace faq {

/// Makes a value for a key and shares it. The value of a key that is asked for once, as weights are in a
/// training step without accumulation, lives as long as the caller holds it. From the second request for a
/// key on, this keeps the value. It then keeps the value of the next key from its first request on; if that
/// key is not asked for again, the key after it is not kept. The old value is dropped before a new one is
/// made. Not safe for threads.
template <class Key, class Value>
class Reused {
 public:
  /// Returns the value of `key`: the last one if the key is equal and somebody holds it, else `make()`, a
  /// std::shared_ptr<Value>.
  template <class Make>
  std::shared_ptr<Value> get(const Key& key, Make make) {
    const bool is_known = key_ && *key_ == key;
    const bool is_kept = is_known || was_known_;
    was_known_ = is_known;
    std::shared_ptr<Value> value = is_known ? last_.lock() : nullptr;
    if (!value) {
      kept_ = nullptr;
      value = make();
      key_ = key;
      last_ = value;
    }
    if (is_kept) kept_ = value;
    return value;
  }

  /// Forgets key and value.
  void release() { *this = {}; }

 private:
  std::optional<Key> key_;
  std::weak_ptr<Value> last_;
  std::shared_ptr<Value> kept_;
  bool was_known_ = false;  ///< the last request was for a key asked for before
};

}  // namespace faq
