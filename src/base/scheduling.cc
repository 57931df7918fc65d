#include "base/scheduling.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace fathom {
namespace {

constexpr uint64_t kShortSlice = 100'000;  // ns, the least that the kernel takes

// Of <linux/sched/types.h>, which newer versions of glibc's <sched.h> do not go with; the first version, which all know.
struct SchedAttributes {
  uint32_t size = sizeof(SchedAttributes);
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0, deadline = 0, period = 0;
};
static_assert(sizeof(SchedAttributes) == 48);

}  // namespace

bool AskForShortSlices() {
#if defined(SYS_sched_getattr) && defined(SYS_sched_setattr)
  SchedAttributes attributes;
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0u) != 0) return false;
  if (attributes.policy != SCHED_OTHER) return false;  // somebody has chosen
  attributes.runtime = kShortSlice;
  attributes.deadline = attributes.period = 0;
  return syscall(SYS_sched_setattr, 0, &attributes, 0u) == 0;
#else
  return false;
#endif
}

}  // namespace fathom
