#include "train/torch/device.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace fathom::train {
namespace {

/// How many devices of a kind are visible; 0 where libtorch was built without it.
int CountDevices(at::DeviceType type) {
  if (!c10::impl::hasDeviceGuardImpl(type)) return 0;
  return c10::impl::VirtualGuardImpl(type).deviceCount();
}

/// Some kinds register themselves and cannot compute (meta keeps shapes only), so a sum is asked for.
bool Computes(at::DeviceType type) {
  try {
    return at::ones({2}, at::TensorOptions(at::Device(type))).sum().item<float>() == 2.0f;
  } catch (const std::exception&) {
    return false;
  }
}

struct Kind {
  at::DeviceType type;
  int count;
};

std::vector<Kind> UsableKinds() {
  std::vector<Kind> kinds;
  for (int i = 0; i < at::COMPILE_TIME_MAX_DEVICE_TYPES; ++i) {
    const auto type = static_cast<at::DeviceType>(i);
    const int count = CountDevices(type);
    if (count > 0 && Computes(type)) kinds.push_back({type, count});
  }
  return kinds;
}

std::vector<std::string> Names(const std::vector<Kind>& kinds) {
  std::vector<std::string> names;
  for (const Kind& kind : kinds) {
    const std::string name = c10::DeviceTypeName(kind.type, /*lower_case=*/true);
    if (kind.count == 1) names.push_back(name);
    for (int i = 0; kind.count > 1 && i < kind.count; ++i) names.push_back(fmt::format("{}:{}", name, i));
  }
  return names;
}

}  // namespace

std::vector<std::string> UsableDevices() { return Names(UsableKinds()); }

Result<at::Device> DeviceOfRank(at::Device device, int count, const LaunchPlace& place) {
  if (device.has_index() || device.is_cpu() || count == 1 || place.size == 1 || place.local_size == 1 ||
      !place.local_rank) {
    return device;
  }
  if (*place.local_rank >= count) {
    return Fail(ErrorCode::kInvalidArgument, "local rank {} has no device: there are {} of {} on this machine\n"
                "Start at most {} ranks a machine.", *place.local_rank, count, device.str(), count);
  }
  return at::Device(device.type(), static_cast<at::DeviceIndex>(*place.local_rank));
}

Result<at::Device> FindDevice(const std::string& name, const LaunchPlace& place) {
  const std::vector<Kind> kinds = UsableKinds();
  const auto unknown = [&] {
    return Fail(ErrorCode::kInvalidArgument, "--device {}: this libtorch has no such device here; it has {}", name,
                fmt::join(Names(kinds), ", "));
  };
  try {
    const at::Device device(name);
    const auto kind = std::find_if(kinds.begin(), kinds.end(), [&](const Kind& k) { return k.type == device.type(); });
    if (kind == kinds.end() || device.index() >= kind->count) return unknown();
    return DeviceOfRank(device, kind->count, place);
  } catch (const std::exception&) {  // no device's name at all
    return unknown();
  }
}

}  // namespace fathom::train
