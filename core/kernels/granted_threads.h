// The threads that oneDNN may count on.
#pragma once

namespace faq::kernels {

/// While it lives, OpenMP tells the calling thread's libraries of as many threads as num_threads(), and gives
/// them so many. oneDNN divides the work of some primitives among all threads it is told of, and each of them
/// waits for all others: one thread less, and it waits for ever. The caller's own settings return at the end.
class GrantedThreads {
 public:
  GrantedThreads();
  ~GrantedThreads();
  GrantedThreads(const GrantedThreads&) = delete;
  GrantedThreads& operator=(const GrantedThreads&) = delete;

 private:
  int threads_;
  int dynamic_;
};

}  // namespace faq::kernels
