// Wakes up a thread that waits in poll(2).

#pragma once

namespace primgr {

// An eventfd(2). Thread-safe.
class Wake_Up {
 public:
  // Throws std::system_error.
  Wake_Up();
  ~Wake_Up();
  Wake_Up(const Wake_Up&) = delete;
  Wake_Up& operator=(const Wake_Up&) = delete;

  // Makes fd() readable. Does not block; async-signal-safe.
  void wake() const;
  // Makes fd() unreadable until the next wake(). Does not block.
  void clear() const;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

}  // namespace primgr
