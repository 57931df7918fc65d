#include "train/torch/exchange.h"

#include <torch/csrc/autograd/custom_function.h>

namespace fathom::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Rows to other ranks; their gradients come back the same way.
class AllToAllFn : public torch::autograd::Function<AllToAllFn> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, int64_t ranks, const std::vector<int64_t>& send,
                        const std::vector<int64_t>& receive) {
    ctx->saved_data["ranks"] = ranks;
    ctx->saved_data["send"] = send;
    ctx->saved_data["receive"] = receive;
    return reinterpret_cast<Ranks*>(ranks)->AllToAll(x.contiguous(), send, receive);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto* ranks = reinterpret_cast<Ranks*>(ctx->saved_data["ranks"].toInt());
    return {ranks->AllToAll(grads[0].contiguous(), ctx->saved_data["receive"].toIntVector(),
                            ctx->saved_data["send"].toIntVector()),
            {}, {}, {}};
  }
};

}  // namespace

Tensor ExchangeExperts(Ranks& ranks, const Tensor& x, const Tensor& weights, const Tensor& choices, int64_t experts,
                       const Tensor& gate_up, const Tensor& down) {
  const int64_t size = ranks.size(), local = experts / size, n = x.size(0), k = choices.size(1);
  // Slots sorted by expert are sorted by rank too.
  const ExpertGroups mine = GroupByExpert(choices, experts);
  std::vector<int64_t> send(size), receive(size);
  for (int64_t r = 0; r < size; ++r) send[r] = mine.begin[(r + 1) * local] - mine.begin[r * local];

  // How many tokens each of our experts gets from each rank.
  Tensor counts = at::empty({experts, 1}, at::kLong);
  for (int64_t e = 0; e < experts; ++e) counts[e][0] = mine.begin[e + 1] - mine.begin[e];
  const std::vector<int64_t> each(size, local);
  const Tensor incoming = ranks.AllToAll(counts.to(x.device()), each, each).to(at::kCPU).view({size, local});
  const auto from = incoming.accessor<int64_t, 2>();
  std::vector<int64_t> expert_of;
  for (int64_t r = 0; r < size; ++r) {
    receive[r] = 0;
    for (int64_t e = 0; e < local; ++e) {
      receive[r] += from[r][e];
      expert_of.insert(expert_of.end(), from[r][e], e);
    }
  }

  const auto handle = reinterpret_cast<int64_t>(&ranks);
  const Tensor arrived = AllToAllFn::apply(x.index_select(0, mine.rows), handle, send, receive);
  const Tensor choice = at::tensor(expert_of, at::kLong).view({-1, 1}).to(x.device());
  const Tensor ones = at::ones({choice.size(0), 1}, weights.options());
  // The gate's weights stay at home: they scale what comes back.
  const Tensor done = GroupedExperts(arrived, ones, GroupByExpert(choice, local), gate_up, down);
  const Tensor back = AllToAllFn::apply(done, handle, receive, send);
  const Tensor picked = back.index_select(0, mine.slots.reshape({-1})).view({n, k, x.size(1)});
  return (picked * weights.unsqueeze(-1).to(picked.scalar_type())).sum(1);
}

}  // namespace fathom::train
