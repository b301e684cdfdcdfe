// The parts of the rule that the tests of the search leave out, and the small clusters that are
// searched.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace primgr::prove {

using Mask = std::uint8_t;  // a set of nodes: bit 0 is n1

// The part of the rule that is left out.
enum class Part {
  none,
  old_lists,
  silent,
  own_uncounted,
  own_for_ever,
  unfinished,
  replaced,
  as_is,
  unnoted,
  deaf,
  counts,
  lower,
  new_only,
  old_only,
  late_acknowledgement,
  acknowledged_unstored,
  forgotten,
  two_votes,
  melting,
  gap,
  own_counted,
  unanswered,
  blank,
};
struct Described {
  Part part;
  const char* name;
  const char* what;
  const char* scope;  // the scope in which the violation is found
};
inline constexpr Described parts[] = {
    {Part::old_lists, "old-lists", "a voter votes whatever its current list is", "alone"},
    {Part::silent, "silent", "a voter does not report its pending list", "alone"},
    {Part::own_uncounted, "own-uncounted", "a candidate does not count the list it holds", "alone"},
    {Part::unfinished, "unfinished", "a found list need not be finished first", "carried"},
    {Part::replaced, "replaced", "a list that carries a found one is replaced", "carried"},
    {Part::as_is, "as-is", "a found list is finished under its own number", "heals"},
    {Part::deaf, "deaf", "a candidate keeps its round when it hears of a higher one", "heals"},
    {Part::counts, "counts", "a list is replaced under the same number", "alone"},
    {Part::lower, "lower", "a lower pending list replaces a higher one", "lists"},
    {Part::new_only, "new-only", "confirmed by a majority of the new list only", "alone"},
    {Part::old_only, "old-only", "confirmed by a majority of the old list only", "heals"},
    {Part::late_acknowledgement, "late-acknowledgement",
     "what was acknowledged counts for the next list", "late"},
    {Part::acknowledged_unstored, "acknowledged-unstored",
     "a list is acknowledged though it was not stored", "stores"},
    {Part::forgotten, "forgotten", "a promise does not survive a restart", "alone"},
    {Part::two_votes, "two-votes", "a voter promises itself to two", "alone"},
    {Part::melting, "melting", "what is reported in the reign counts", "heals"},
    {Part::gap, "gap", "a gap in the reign ends nothing", "alone"},
    {Part::own_counted, "own-counted", "a maker counts its list before it is current", "undone"},
    {Part::unanswered, "unanswered", "a list is made though nobody answers by it", "absent"},
    {Part::blank, "blank", "who has lost its disk votes at once", "disk"},
    {Part::own_for_ever, "own-for-ever", "a maker never counts what it made", "carried"},
    {Part::unnoted, "unnoted", "a list is made before a majority has noted its round", "notes"},
};

struct Scope_Of_Search {
  const char* name;
  const char* what;
  int nodes = 3;
  Mask first = 7, candidates = 5;
  std::vector<Mask> wished;
  int rounds = 2, counts = 0;
  std::size_t live = 0;  // one in so many states is checked for liveness; 0: none
  // Whether one message between n1 and n2 may be under way. 1: a message of any kind. 2: only
  // lists, which are under way at the beginning.
  int late = 0;
  Mask stores_fail = 0;  // the stores of these nodes may fail
  Mask absent = 0;       // these nodes never answer
  Mask lost = 0;         // these nodes may be declared lost, once they are gone for good
  Mask blank = 0;  // each of these nodes may lose its disk, and with it its promise; once in all
  // Bits. 1: lists are fetched together with each question. 2: the same, and the question is asked
  // again. 4: questions without a fetch are searched too.
  int fused = 0;
  // The first list was made, not read.
  bool changed = false;
  // n2 has confirmed the first list of `wished`, with the help of n3. n4 does not know that list
  // yet.
  bool begun = false;
  std::size_t limit = 40'000'000;
};

const std::vector<Scope_Of_Search>& scopes();

}  // namespace primgr::prove
