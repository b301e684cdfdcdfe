// Reads private members of the values in a Core, so that production code needs no access functions
// for this. The names of private members may be used in an explicit instantiation.

#pragma once

#include "node/peers/polls.hpp"
#include "node/rules/promise.hpp"
#include "node/rules/staleness.hpp"

namespace primgr::prove {

template <class Tag, auto Member>
struct Expose {
  friend auto member(Tag) { return Member; }
};

#define PROVE_EXPOSE(tag, pointer) \
  struct tag {                     \
    friend auto member(tag);       \
  };                               \
  template struct Expose<tag, pointer>;

PROVE_EXPOSE(Polls_Peers, &Polls::peers_)
PROVE_EXPOSE(Polls_Votes, &Polls::votes_)
PROVE_EXPOSE(Polls_Missed, &Polls::missed_)
PROVE_EXPOSE(Promise_Stores, &Promise::stores_)
PROVE_EXPOSE(Promise_Bound_Until, &Promise::bound_until_)
PROVE_EXPOSE(Promise_Grant, &Promise::grant_)
PROVE_EXPOSE(Promise_Saved, &Promise::saved_)
PROVE_EXPOSE(Staleness_Reported, &Staleness::reported_)
PROVE_EXPOSE(Staleness_Timeline, &Staleness::timeline_)
PROVE_EXPOSE(Staleness_Received, &Staleness::received_)
PROVE_EXPOSE(Staleness_Received_Timeline, &Staleness::received_timeline_)
PROVE_EXPOSE(Staleness_Last_Asked_At, &Staleness::last_asked_at_)
PROVE_EXPOSE(Staleness_Fresh_At, &Staleness::fresh_at_)
PROVE_EXPOSE(Staleness_Since, &Staleness::since_)
PROVE_EXPOSE(Staleness_Counted, &Staleness::counted_)
PROVE_EXPOSE(Staleness_No_Primary_Until, &Staleness::no_primary_until_)

#undef PROVE_EXPOSE

// The member of `value` that the tag stands for.
template <class Tag, class Value>
decltype(auto) at(Tag tag, Value& value) {
  return (value.*member(tag));
}

}  // namespace primgr::prove
