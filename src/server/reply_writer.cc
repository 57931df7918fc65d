#include "server/reply_writer.h"

namespace fathom {

void UsageSum::Add(int32_t choice, const ServiceResult& result) {
  const Timings& tokens = result.generation.timings;
  if (choice % n_ == 0) {
    total_.prompt += tokens.prompt_tokens + tokens.cached_tokens;
    total_.cached += tokens.cached_tokens;
  }
  total_.completion += tokens.generated_tokens;
  total_.reasoning += result.reasoning_tokens;
}

}  // namespace fathom
