#include "daemon/state/grant_keeper.hpp"

#include <algorithm>
#include <thread>
#include <utility>

#include "daemon/state/grant_file.hpp"

namespace primgr {

using namespace std::chrono_literals;

Grant_Keeper::Grant_Keeper(Store store, Logger log) : log_(std::move(log)) {
  shared_->store = std::move(store);
  std::thread(run_jobs, shared_).detach();
}

Grant_Keeper::~Grant_Keeper() {
  std::unique_lock lock(shared_->mutex);
  shared_->ending = true;
  shared_->changed.notify_all();
  shared_->changed.wait_for(lock, 100ms, [this] { return shared_->ended; });
}

std::optional<Grant> Grant_Keeper::load(std::chrono::milliseconds timeout) {
  std::unique_lock lock(shared_->mutex);
  start_job([](Shared& shared) {
    shared.thrown = nullptr;
    std::optional<Grant> loaded;
    std::string why;
    std::exception_ptr thrown;
    try {
      loaded = shared.store.load(why);
    } catch (...) {
      thrown = std::current_exception();
    }
    const std::lock_guard held(shared.mutex);
    shared.loaded = loaded;
    shared.why = why;
    shared.thrown = thrown;
  });
  if (!shared_->changed.wait_for(lock, timeout, [this] { return !shared_->job; })) {
    log_change(no_answer);
    return std::nullopt;
  }
  if (shared_->thrown) std::rethrow_exception(shared_->thrown);
  if (!shared_->why.empty()) {
    log_(Log_Level::warning,
         "state_file: " + shared_->why + ": this voter is silent for one vote_lease");
  }
  return shared_->loaded;
}

Grant Grant_Keeper::save(const Grant& grant, Deadline until) {
  std::unique_lock lock(shared_->mutex);
  const auto ready = [this] { return !shared_->job; };
  // While a problem lasts, the job before is not waited for: a store that hangs must not delay
  // every vote.
  if (!ready() && (!logged_problem_.empty() || !shared_->changed.wait_until(lock, until, ready))) {
    log_change(no_answer);
    return guaranteed();
  }
  shared_->writing = grant;
  start_job([grant](Shared& shared) {
    std::string why;
    try {
      why = shared.store.save(grant);
    } catch (const std::bad_alloc&) {
      why = "out of memory";  // so short that it needs none
    }
    const std::lock_guard held(shared.mutex);
    shared.stored = why.empty() ? grant : Grant{};
    shared.why = why;
  });
  if (!shared_->changed.wait_until(lock, until, ready)) {
    log_change(no_answer);
  } else if (!shared_->why.empty()) {
    log_change("state_file: " + shared_->why + ": this node votes for nobody until it can be kept");
  } else if (!std::exchange(logged_problem_, {}).empty()) {
    log_(Log_Level::info, "state_file is written again");
  }
  return guaranteed();
}

void Grant_Keeper::start_job(std::function<void(Shared&)> job) {
  shared_->job = std::move(job);
  shared_->changed.notify_all();
}

Grant Grant_Keeper::guaranteed() const {
  const Grant &stored = shared_->stored, &writing = shared_->writing;
  if (!shared_->job) return stored;
  if (stored.to != writing.to || stored.token != writing.token) return {};
  Grant both = stored;
  both.until = std::min(stored.until, writing.until);
  both.kept_until = std::min(stored.kept_until, writing.kept_until);
  return both;
}

void Grant_Keeper::log_change(const std::string& problem) {
  if (std::exchange(logged_problem_, problem) != problem) log_(Log_Level::error, problem);
}

void Grant_Keeper::run_jobs(std::shared_ptr<Shared> shared) {
  std::unique_lock lock(shared->mutex);
  for (;;) {
    shared->changed.wait(lock, [&] { return shared->job || shared->ending; });
    if (!shared->job) break;
    // Nobody changes it while it is there, so it is called in place: a copy takes memory.
    const auto& job = shared->job;
    lock.unlock();
    job(*shared);
    lock.lock();
    shared->job = nullptr;
    shared->changed.notify_all();
  }
  {
    // Destroyed after the unlock, since this closes the file, which may block.
    const Store released = std::exchange(shared->store, {});
    lock.unlock();
  }
  lock.lock();
  shared->ended = true;
  shared->changed.notify_all();
}

Grant_Keeper::Store state_file_store(const std::string& path, const std::string& owner) {
  const auto file = std::make_shared<Grant_File>(path, owner);
  return {[file](std::string& why) { return file->load(why); },
          [file](const Grant& grant) { return file->save(grant); }};
}

}  // namespace primgr
