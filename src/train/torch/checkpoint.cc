#include "train/torch/checkpoint.h"

#include <ATen/core/grad_mode.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <cstring>
#include <map>

#include "format/hf_config_writer.h"
#include "format/model_file.h"
#include "format/safetensors.h"
#include "format/safetensors_writer.h"
#include "io/env.h"
#include "io/file_writer.h"
#include "kernels/dequant.h"

namespace fathom::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kStateVersion = 2;
constexpr char kPrefix[] = "step-";
const std::string kWriting = ".writing-";

/// A tensor under the name and shape that Hugging Face gives it: a view of rows of one of ours.
struct Piece {
  std::string name;
  Tensor value;
};

std::string Replaced(std::string name, std::string_view from, std::string_view to) {
  name.replace(name.find(from), from.size(), to);
  return name;
}

/// gate_up_proj is gate_proj above up_proj; stacks of experts are one tensor an expert. `value`: whole, not a shard.
std::vector<Piece> Pieces(const std::string& name, const Tensor& value) {
  std::vector<Piece> pieces;
  const auto split = [&](const std::string& full, const Tensor& tensor) {
    if (full.find("gate_up_proj") == std::string::npos) {
      pieces.push_back({full, tensor});
      return;
    }
    const int64_t half = tensor.size(0) / 2;
    pieces.push_back({Replaced(full, "gate_up_proj", "gate_proj"), tensor.narrow(0, 0, half)});
    pieces.push_back({Replaced(full, "gate_up_proj", "up_proj"), tensor.narrow(0, half, half)});
  };
  if (name.find(".experts.") == std::string::npos) {
    split(name, value);
  } else {
    for (int64_t e = 0; e < value.size(0); ++e) {
      split(Replaced(name, ".experts.", ".experts." + std::to_string(e) + "."), value[e]);
    }
  }
  return pieces;
}

/// A sharded tensor's parts of all ranks, put together, on every rank.
Tensor Gathered(const Tensor& part, bool sharded, Ranks& ranks) {
  if (!sharded) return part;
  auto sizes = part.sizes().vec();
  const int64_t local = sizes[0];
  sizes[0] *= ranks.size();
  Tensor whole = at::zeros(sizes, part.options());
  whole.narrow(0, local * ranks.rank(), local).copy_(part);
  ranks.Sum(whole);
  return whole;
}

std::span<const std::byte> Bytes(const Tensor& x) {
  return {static_cast<const std::byte*>(x.data_ptr()), static_cast<size_t>(x.numel() * x.element_size())};
}

Status WriteTensors(const std::string& path, const std::vector<Piece>& pieces, DType dtype) {
  FATHOM_TRY(auto writer, SafetensorsWriter::Create(path));
  writer->AddMetadata("format", "pt");
  for (const Piece& piece : pieces) {
    writer->Declare(piece.name, dtype, piece.value.sizes().vec());
  }
  FATHOM_CHECK_OK(writer->WriteHeader());
  for (const Piece& piece : pieces) {
    const auto type = dtype == DType::kBF16 ? at::kBFloat16 : at::kFloat;
    const Tensor host = piece.value.detach().to(at::kCPU).to(type).contiguous();
    FATHOM_CHECK_OK(writer->Append(Bytes(host)));
  }
  return writer->Finish();
}

Result<uint64_t> HashFile(const std::string& path) {
  FATHOM_TRY(const auto map, Env::Default().Map(path, {.advice = MapAdvice::kSequential}));
  return XXH3_64bits(map->bytes().data(), map->bytes().size());
}

Status MakeFolder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return Fail(ErrorCode::kIo, "{}: the folder cannot be made: {}", path, error.message());
  return {};
}

Status CopyTokenizer(const std::string& folder, const ExportFiles& files, std::vector<std::string>& written) {
  if (files.tokenizer_json.empty()) return {};
  for (const std::string name : {"tokenizer.json", "tokenizer_config.json"}) {
    const std::string from = JoinPath(DirectoryOf(files.tokenizer_json), name);
    if (!Env::Default().Exists(from)) continue;
    FATHOM_TRY(const std::string text, ReadWholeFile(Env::Default(), from, int64_t{256} << 20));
    FATHOM_CHECK_OK(WriteWholeFile(Env::Default(), JoinPath(folder, name), text));
    written.push_back(name);
  }
  return {};
}

/// The whole model in pieces, on rank 0. Collective.
std::vector<Piece> ModelPieces(TrainModel& model) {
  std::vector<Piece> pieces;
  for (const Parameter& parameter : model.parameters()) {
    const Tensor whole = Gathered(parameter.value.detach(), parameter.sharded, model.ranks());
    if (model.ranks().rank() != 0) continue;
    for (Piece& piece : Pieces(parameter.name, whole)) pieces.push_back(std::move(piece));
  }
  return pieces;
}

/// Model files into an existing folder; names of what was written are appended.
Status WriteModel(const ModelConfig& model, const std::vector<Piece>& pieces, const std::string& folder, DType dtype,
                  const ExportFiles& files, std::vector<std::string>& written) {
  FATHOM_TRY(const std::string config,
             HfConfigJson(model, dtype, {.bos = files.bos, .eos = files.eos, .pad = files.pad}));
  FATHOM_CHECK_OK(WriteWholeFile(Env::Default(), JoinPath(folder, "config.json"), config));
  FATHOM_CHECK_OK(WriteTensors(JoinPath(folder, "model.safetensors"), pieces, dtype));
  written.insert(written.end(), {"config.json", "model.safetensors"});
  return CopyTokenizer(folder, files, written);
}

/// A checkpoint of a run that has diverged would take the place of a good one.
Status CheckFinite(const std::vector<Piece>& pieces) {
  for (const Piece& piece : pieces) {
    if (!piece.value.isfinite().all().item<bool>()) {
      return Fail(ErrorCode::kInternal, "{} has values that are no numbers: the run has diverged", piece.name);
    }
  }
  return {};
}

/// Runs `write` on rank 0 and tells all ranks how it went, so that none waits for one that gave up. Collective.
template <typename Fn>
Status OnRankZero(TrainModel& model, Fn&& write) {
  Ranks& ranks = model.ranks();
  const Status status = ranks.rank() == 0 ? write() : Status();
  if (ranks.alone()) return status;
  // The kind of failure travels along, since it decides whether the run goes on.
  at::Tensor failed = at::full({1}, status ? 0.0f : 1.0f + static_cast<float>(status.error().code)).to(model.device());
  ranks.Sum(failed);
  const int code = static_cast<int>(failed.item<float>()) - 1;
  if (status && code >= 0) return Fail(static_cast<ErrorCode>(code), "rank 0 could not write; its message says why");
  return status;
}

std::optional<int64_t> StepOf(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  int64_t step = 0;
  const char *begin = name.data() + sizeof(kPrefix) - 1, *end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(begin, end, step);
  if (error != std::errc() || rest != end || begin == end) return std::nullopt;
  return step;
}

/// A whole number at a key, -1 when there is none.
int64_t Count(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_integer() ? found->get<int64_t>() : -1;
}
std::string Text(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}
/// Names of files in it may be no UTF-8.
std::string Dump(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}
uint64_t HashJson(const json& value) {
  const std::string text = Dump(value, -1);  // keys are sorted
  return XXH3_64bits(text.data(), text.size());
}
std::string Hex(uint64_t hash) { return fmt::format("{:016x}", hash); }

Result<json> ReadState(const std::string& folder) {
  const std::string path = JoinPath(folder, "state.json");
  FATHOM_TRY(const std::string text, ReadWholeFile(Env::Default(), path, int64_t{64} << 20));
  json state = json::parse(text, nullptr, false);
  if (!state.is_object() || !state.contains("files") || !state["files"].is_object() || !state.contains("trainer")) {
    return Fail(ErrorCode::kCorrupt, "{}: not a checkpoint's state", path);
  }
  const int64_t version = Count(state, "version");
  if (version < 1 || version > kStateVersion) {
    return Fail(ErrorCode::kUnsupported, "{}: version {}, and this program knows up to {}", path, version,
                kStateVersion);
  }
  if (version >= 2) {  // version 1 had no hash of this file itself
    const std::string hash = Text(state, "xxh3");
    state.erase("xxh3");
    if (hash != Hex(HashJson(state))) {
      return Fail(ErrorCode::kCorrupt, "{}: its content has changed since it was written", path);
    }
  }
  return state;
}

Status CheckFiles(const std::string& folder, const json& state) {
  for (const auto& [name, facts] : state["files"].items()) {
    const std::string path = JoinPath(folder, name);
    if (!facts.is_object()) return Fail(ErrorCode::kCorrupt, "{}: no facts about {}", folder, name);
    FATHOM_TRY(const int64_t size, Env::Default().FileSize(path));
    if (const int64_t bytes = Count(facts, "bytes"); size != bytes) {
      return Fail(ErrorCode::kCorrupt, "{}: {} bytes, and it was written with {}", path, size, bytes);
    }
    FATHOM_TRY(const uint64_t hash, HashFile(path));
    if (Hex(hash) != Text(facts, "xxh3")) {
      return Fail(ErrorCode::kCorrupt, "{}: its content has changed since it was written", path);
    }
  }
  return {};
}

std::vector<CheckpointInfo> ListCheckpoints(const std::string& folder) {
  std::vector<CheckpointInfo> found;
  const auto names = Env::Default().List(folder);
  if (!names) return found;
  for (const std::string& name : *names) {
    if (const auto step = StepOf(name)) found.push_back({JoinPath(folder, name), *step});
  }
  std::ranges::sort(found, std::greater(), &CheckpointInfo::step);
  return found;
}

/// What runs that were killed while saving have left. REQUIRES: nobody writes into the folder now.
void RemoveLeftovers(const std::string& folder) {
  const auto names = Env::Default().List(folder);
  if (!names) return;
  std::error_code ignored;
  for (const std::string& name : *names) {
    if (name.starts_with(kWriting)) fs::remove_all(JoinPath(folder, name), ignored);
  }
}

/// f32 rows of a tensor in a file into `to` (or this rank's part of it).
Status CopyInto(const TensorInfo& from, Tensor to, const std::string& where) {
  const auto shape = to.sizes();
  if (!std::equal(shape.begin(), shape.end(), from.shape.begin(), from.shape.end())) {
    return Fail(ErrorCode::kCorrupt, "{}: {} has another shape than the recipe's model", where, from.name);
  }
  std::vector<float> values(to.numel());
  if (from.dtype == DType::kF32) {
    std::memcpy(values.data(), from.data, values.size() * sizeof(float));
  } else if (from.dtype == DType::kBF16 || from.dtype == DType::kF16) {
    DequantizeRow(from.dtype, from.data, static_cast<int64_t>(values.size()), values.data());
  } else {
    return Fail(ErrorCode::kUnsupported, "{}: {} is {}; training starts from f32, bf16 or f16 weights", where,
                from.name, DTypeName(from.dtype));
  }
  to.copy_(at::from_blob(values.data(), shape.vec(), at::kFloat));
  return {};
}

Status LoadTensors(const ModelFile& file, const std::string& where, const std::string& name, Tensor value,
                   bool sharded, Ranks& ranks) {
  at::NoGradGuard no_grad;
  auto sizes = value.sizes().vec();
  const int64_t local = sizes[0];
  if (sharded) sizes[0] *= ranks.size();
  Tensor whole = sharded ? at::empty(sizes, at::kFloat) : value;
  for (const Piece& piece : Pieces(name, whole)) {
    const TensorInfo* from = file.Find(piece.name);
    if (from == nullptr) return Fail(ErrorCode::kCorrupt, "{}: has no tensor {}", where, piece.name);
    FATHOM_CHECK_OK(CopyInto(*from, piece.value, where));
  }
  if (sharded) value.copy_(whole.narrow(0, local * ranks.rank(), local));
  return {};
}

}  // namespace

Status ExportModel(TrainModel& model, const std::string& folder, DType dtype, const ExportFiles& files) {
  const std::vector<Piece> pieces = ModelPieces(model);
  return OnRankZero(model, [&]() -> Status {
    FATHOM_CHECK_OK(MakeFolder(folder));
    std::vector<std::string> written;
    return WriteModel(model.config(), pieces, folder, dtype, files, written);
  });
}

Result<CheckpointInfo> SaveCheckpoint(const std::string& folder, int64_t step, TrainModel& model, Optimizer& optimizer,
                                      const json& state, const ExportFiles& files, int keep) {
  const std::string name = fmt::format("{}{:08}", kPrefix, step), path = JoinPath(folder, name);
  const std::string temporary = JoinPath(folder, kWriting + name);
  // All collective work comes first: rank 0 may fail at any place after it.
  const std::vector<Piece> weights = ModelPieces(model);
  std::vector<Piece> moments;
  std::map<std::string, bool> sharded;
  for (const Parameter& parameter : model.parameters()) sharded[parameter.name] = parameter.sharded;
  for (const auto& [key, value] : optimizer.State()) {
    moments.push_back({key, Gathered(value, sharded[key.substr(0, key.rfind('.'))], model.ranks())});
  }
  std::error_code ignored;
  const Status status = OnRankZero(model, [&]() -> Status {
    FATHOM_CHECK_OK(CheckFinite(weights));
    FATHOM_CHECK_OK(CheckFinite(moments));
    fs::remove_all(temporary, ignored);
    FATHOM_CHECK_OK(MakeFolder(temporary));
    std::vector<std::string> names;
    FATHOM_CHECK_OK(WriteModel(model.config(), weights, temporary, DType::kF32, files, names));
    FATHOM_CHECK_OK(WriteTensors(JoinPath(temporary, "optimizer.safetensors"), moments, DType::kF32));
    names.push_back("optimizer.safetensors");
    json facts = json::object();
    for (const std::string& file : names) {
      FATHOM_TRY(const uint64_t hash, HashFile(JoinPath(temporary, file)));
      FATHOM_TRY(const int64_t bytes, Env::Default().FileSize(JoinPath(temporary, file)));
      facts[file] = {{"bytes", bytes}, {"xxh3", Hex(hash)}};
    }
    json all = {{"version", kStateVersion}, {"step", step}, {"optimizer_steps", optimizer.steps()},
                {"files", facts}, {"trainer", state}};
    all["xxh3"] = Hex(HashJson(all));
    FATHOM_CHECK_OK(WriteWholeFile(Env::Default(), JoinPath(temporary, "state.json"), Dump(all, 1) + "\n"));
    fs::remove_all(path, ignored);
    FATHOM_CHECK_OK(Env::Default().Rename(temporary, path));
    return Env::Default().SyncDirectory(folder);
  });
  const bool writes = model.ranks().rank() == 0;
  if (!status) {
    if (writes) fs::remove_all(temporary, ignored);
    return Prefix(status.error(), "the checkpoint could not be written (earlier ones are untouched)");
  }
  if (writes) {
    const auto all = ListCheckpoints(folder);
    for (size_t i = static_cast<size_t>(std::max(1, keep)); i < all.size(); ++i) fs::remove_all(all[i].path, ignored);
    RemoveLeftovers(folder);
  }
  model.ranks().Barrier();
  return CheckpointInfo{path, step};
}

std::optional<CheckpointInfo> NewestCheckpoint(const std::string& folder, std::vector<std::string>& passed_over) {
  for (const CheckpointInfo& checkpoint : ListCheckpoints(folder)) {
    const auto state = ReadState(checkpoint.path);
    const Status status = state ? CheckFiles(checkpoint.path, *state) : Status(std::unexpected(state.error()));
    if (status) return checkpoint;
    passed_over.push_back(status.error().message);
  }
  return std::nullopt;
}

Result<json> LoadCheckpoint(const CheckpointInfo& checkpoint, TrainModel& model, Optimizer& optimizer) {
  FATHOM_TRY(const json state, ReadState(checkpoint.path));
  FATHOM_CHECK_OK(LoadWeights(checkpoint.path, model));

  const std::string path = JoinPath(checkpoint.path, "optimizer.safetensors");
  FATHOM_TRY(const auto map, Env::Default().Map(path, {}));
  const auto parsed = SafetensorsFile::Parse(map->bytes());
  if (!parsed) return Prefix(parsed.error(), path);
  std::map<std::string, const SafetensorsEntry*> entries;
  for (const SafetensorsEntry& entry : parsed->tensors) entries[entry.name] = &entry;
  std::map<std::string, bool> sharded;
  for (const Parameter& parameter : model.parameters()) sharded[parameter.name] = parameter.sharded;
  for (auto& [name, value] : optimizer.State()) {
    const auto found = entries.find(name);
    if (found == entries.end() || found->second->dtype != DType::kF32) {
      return Fail(ErrorCode::kCorrupt, "{}: has no f32 tensor {} (was the run made with another optimizer?)", path,
                  name);
    }
    const SafetensorsEntry& entry = *found->second;
    const TensorInfo info{.name = name, .dtype = entry.dtype, .shape = entry.shape,
                          .data = map->bytes().data() + entry.offset, .bytes = entry.bytes};
    auto sizes = value.sizes().vec();
    const int64_t local = sizes[0];
    const bool shard = sharded[name.substr(0, name.rfind('.'))];
    if (shard) sizes[0] *= model.ranks().size();
    Tensor whole = shard ? at::empty(sizes, at::kFloat) : value;
    FATHOM_CHECK_OK(CopyInto(info, whole, path));
    if (shard) value.copy_(whole.narrow(0, local * model.ranks().rank(), local));
  }
  optimizer.set_steps(std::max<int64_t>(0, Count(state, "optimizer_steps")));
  return state["trainer"];
}

Status LoadWeights(const std::string& path, TrainModel& model) {
  FATHOM_TRY(const auto file, ModelFile::Open(path));
  if (file->format() != ModelFormat::kHuggingFace) {
    return Fail(ErrorCode::kUnsupported, "{}: weights are read from a Hugging Face directory", path);
  }
  for (Parameter& parameter : model.parameters()) {
    FATHOM_CHECK_OK(LoadTensors(*file, path, parameter.name, parameter.value, parameter.sharded, model.ranks()));
  }
  return {};
}

}  // namespace fathom::train
