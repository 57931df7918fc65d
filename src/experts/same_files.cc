#include "experts/same_files.h"

#include <algorithm>
#include <cstring>

#include "io/env.h"
#include "io/page_buffer.h"

namespace fathom {
namespace {

constexpr int64_t kPage = DirectFile::kAlignment;
constexpr int kTries = 3;
constexpr size_t kSamples = 4;  // about so many tensors of a file

}  // namespace

Status CheckSameFiles(const ModelFile& model, const ModelFiles& files) {
  FATHOM_TRY(PageBuffer pages, PageBuffer::Allocate(2 * kPage));
  std::vector<std::byte> want(kPage);
  for (int32_t f = 0; f < static_cast<int32_t>(model.files().size()); ++f) {
    std::vector<const TensorInfo*> tensors;
    for (const TensorInfo& tensor : model.tensors())
      if (tensor.file == f && tensor.bytes > 0 && tensor.data != nullptr) tensors.push_back(&tensor);
    for (size_t i = 0; i < tensors.size(); i += std::max<size_t>(1, tensors.size() / kSamples)) {
      const TensorInfo& tensor = *tensors[i];
      const int64_t bytes = std::min(tensor.bytes, kPage), begin = tensor.offset / kPage * kPage;
      const int64_t end = (tensor.offset + bytes + kPage - 1) / kPage * kPage;
      const int64_t readable = files.Readable(f, begin, end - begin);
      Status read;
      for (int tries = 0; readable > 0 && tries < kTries; ++tries) {
        read = files.file(f)->Read(begin, pages.span().first(static_cast<size_t>(readable)));
        if (read) break;
      }
      FATHOM_CHECK_OK(read);
      files.CopyTail(f, begin, end - begin, pages.data());
      const std::span<std::byte> sample = std::span(want).first(static_cast<size_t>(bytes));
      // Only these pages of the mapping come into the page cache, and go again: what is read around them would still be
      // under way when it was dropped, and stay.
      const TensorInfo place{.bytes = end - begin, .file = f, .offset = begin};
      model.Advise(place, MapAdvice::kRandom);
      const Status mapped = model.Read(tensor, 0, sample);
      model.Advise(place, MapAdvice::kDrop);
      model.Advise(place, MapAdvice::kNormal);
      FATHOM_CHECK_OK(mapped);
      if (std::memcmp(sample.data(), pages.data() + (tensor.offset - begin), sample.size()) == 0) continue;
      return Fail(ErrorCode::kCorrupt, "{}: was replaced or changed while the model was being loaded ({} is not what it "
                  "was); load it again", files.file(f)->path(), tensor.name);
    }
  }
  return {};
}

}  // namespace fathom
