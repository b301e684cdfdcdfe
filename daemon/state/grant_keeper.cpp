#include "daemon/state/grant_keeper.hpp"

#include <algorithm>
#include <utility>

#include "daemon/state/grant_file.hpp"

namespace primgr {

using namespace std::chrono_literals;

Grant_Keeper::Grant_Keeper(Store store, Logger log) : log_(std::move(log)) {
  shared_.store = std::move(store);
  worker_.start(run_jobs);
}

std::optional<Grant> Grant_Keeper::load(std::chrono::milliseconds timeout) {
  const Mutex_Lock lock(shared_.mutex);
  start_job([](Shared& shared) {
    std::optional<Grant> loaded;
    std::string why;
    std::exception_ptr thrown;
    try {
      loaded = shared.store.load(why);
    } catch (...) {
      thrown = std::current_exception();
    }
    const Mutex_Lock held(shared.mutex);
    shared.loaded = loaded;
    shared.why = why;
    shared.thrown = thrown;
  });
  if (!wait_until_idle(std::chrono::steady_clock::now() + timeout)) {
    log_change(no_answer);
    return std::nullopt;
  }
  if (shared_.thrown) std::rethrow_exception(shared_.thrown);
  if (!shared_.why.empty()) {
    log_(Log_Level::warning,
         "state_file: " + shared_.why + ": this voter is silent for one vote_lease");
  }
  return shared_.loaded;
}

Grant Grant_Keeper::save(const Grant& grant, Deadline until) {
  const Mutex_Lock lock(shared_.mutex);
  // While a problem lasts, the previous job is not waited for: a store that hangs must not delay
  // every vote.
  if (shared_.job && (!logged_problem_.empty() || !wait_until_idle(until))) {
    log_change(no_answer);
    return guaranteed();
  }
  shared_.writing = grant;
  start_job([grant](Shared& shared) {
    std::string why;
    try {
      why = shared.store.save(grant);
    } catch (const std::bad_alloc&) {
      why = "out of memory";  // so short that it needs no allocation
    }
    const Mutex_Lock held(shared.mutex);
    shared.stored = why.empty() ? grant : Grant{};
    shared.why = why;
  });
  if (!wait_until_idle(until)) {
    log_change(no_answer);
  } else if (!shared_.why.empty()) {
    log_change("state_file: " + shared_.why + ": this node votes for nobody until it can be kept");
  } else if (!std::exchange(logged_problem_, {}).empty()) {
    log_(Log_Level::info, "state_file is written again");
  }
  return guaranteed();
}

void Grant_Keeper::start_job(std::function<void(Shared&)> job) {
  shared_.job = std::move(job);
  shared_.changed.notify_all();
}

Grant Grant_Keeper::guaranteed() const {
  const Grant stored = shared_.stored, writing = shared_.writing;
  if (!shared_.job) return stored;
  if (stored.to != writing.to || stored.token != writing.token) return {};
  Grant both = stored;
  both.until = std::min(stored.until, writing.until);
  both.kept_until = std::min(stored.kept_until, writing.kept_until);
  return both;
}

void Grant_Keeper::log_change(const std::string& problem) {
  if (std::exchange(logged_problem_, problem) != problem) log_(Log_Level::error, problem);
}

bool Grant_Keeper::wait_until_idle(Deadline until) {
  while (shared_.job && shared_.changed.wait_until(shared_.mutex, until)) {
  }
  return !shared_.job;
}

void Grant_Keeper::run_jobs(Shared& shared) {
  const Mutex_Lock lock(shared.mutex);
  for (;;) {
    while (!shared.job && !shared.ending) shared.changed.wait(shared.mutex);
    if (!shared.job) break;
    // The job stays there while it runs, so that other threads see that it runs. No other thread
    // changes it meanwhile.
    const auto* job = &shared.job;
    {
      const Mutex_Unlock unlock(shared.mutex);
      (*job)(shared);
    }
    shared.job = nullptr;
    shared.changed.notify_all();
  }
  const Mutex_Unlock unlock(shared.mutex);
  shared.store = {};  // closes the file, which may block
}

Grant_Keeper::Store state_file_store(const std::string& path, const std::string& owner) {
  const auto file = std::make_shared<Grant_File>(path, owner);
  return {[file](std::string& why) { return file->load(why); },
          [file](const Grant& grant) { return file->save(grant); }};
}

}  // namespace primgr
