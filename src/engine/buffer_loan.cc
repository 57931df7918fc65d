#include "engine/buffer_loan.h"

#include <thread>

#include "base/log.h"

namespace fathom {

Status BufferLoan::BeforePass(int64_t rows) {
  if (rows > kShortPassRows) {
    short_passes_ = 0;
    return lent_ ? TakeBack() : Status{};
  }
  if (lent_ || ++short_passes_ != kPatience) return {};
  parts_.release_buffers();
  // Where the system has no memory after all the slots stay as they are, until another long pass has come by.
  if (const Status grown = parts_.experts.Resize(parts_.slots + parts_.lent); !grown) {
    spdlog::debug("buffers are not lent to experts: {}", grown.error().message);
    return {};
  }
  lent_ = true;
  return {};
}

Status BufferLoan::TakeBack() {
  FATHOM_CHECK_OK(parts_.experts.Resize(parts_.slots));
  // Slots that are being read into follow when they have arrived.
  constexpr std::chrono::microseconds kLook{200};
  const auto end = std::chrono::steady_clock::now() + parts_.patience;
  while (parts_.experts.slots() > parts_.slots) {
    if (std::chrono::steady_clock::now() > end) {
      return Fail(ErrorCode::kIo, "the disk has not answered for {} s: memory lent to experts is wanted for a prompt of "
                  "many tokens", std::chrono::duration_cast<std::chrono::seconds>(parts_.patience).count());
    }
    std::this_thread::sleep_for(kLook);
  }
  lent_ = false;
  return {};
}

}  // namespace fathom
