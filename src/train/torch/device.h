// Which device a rank computes on. libtorch is asked what it has; no kind of device is named here.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "train/launcher.h"

namespace fathom::train {

/// What this libtorch can compute on in this process, as --device takes it: "cpu", and others where it was built with
/// them and the machine has them, numbered where there are several. Tried by computing on each.
std::vector<std::string> UsableDevices();

/// `name` as --device has it: a kind of device, or one of several ("kind:2"). Among several ranks on a machine a kind of
/// which there are several means the one that has the local rank's number. Errors: kInvalidArgument for what is not among
/// UsableDevices(), and for more local ranks than devices; the message lists them.
Result<at::Device> FindDevice(const std::string& name, const LaunchPlace& place);

/// The second half of FindDevice: `count` devices of this kind are visible.
Result<at::Device> DeviceOfRank(at::Device device, int count, const LaunchPlace& place);

}  // namespace fathom::train
