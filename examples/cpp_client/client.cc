// A client in C++: environments of its own, the wire of proto/seedbed.proto, and nothing else. It does all that the protocol asks:
// it comes back when a connection breaks, when the server restarts and when it is full, and leaves when it is told to.
//
//   seedbed server --env seedbed/Catch-v0 --run-dir runs/cpp --port 7777 --num-envs 4
//   cd examples/cpp_client && make && ./client 127.0.0.1:7777 50
//
// Arguments: HOST:PORT, episodes (0: until told to stop), environments, a name that is unique in the fleet.
// It plays Catch: a ball falls through a grid of 10 x 5, and a paddle in the last row is moved left, not at all or right.

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "seedbed.grpc.pb.h"

namespace pb = seedbed::v1;

namespace {

constexpr int kRows = 10, kColumns = 5;
constexpr uint8_t kFirst = 0, kMid = 1, kLast = 2;

std::atomic<bool> stopping{false};
std::mt19937_64 random_bits{std::random_device{}()};

// Floats and integers travel little-endian, as they lie in memory wherever this is likely to be compiled.
static_assert(sizeof(float) == 4, "IEEE 754 binary32");

class Catch {
 public:
  void Reset() {
    ball_row_ = 0;
    ball_column_ = static_cast<int>(random_bits() % kColumns);
    paddle_ = kColumns / 2;
    steps_ = 0;
  }

  // Takes action 0, 1 or 2, as it travels; tells whether the episode is over.
  bool Step(int64_t action, float* reward) {
    paddle_ = std::clamp(paddle_ + static_cast<int>(action) - 1, 0, kColumns - 1);
    ball_row_ += 1;
    steps_ += 1;
    const bool over = ball_row_ == kRows - 1;
    *reward = over ? (paddle_ == ball_column_ ? 1.0f : -1.0f) : 0.0f;
    return over;
  }

  // Appends the grid, row by row.
  void Show(std::string* bytes) const {
    float grid[kRows * kColumns] = {};
    grid[ball_row_ * kColumns + ball_column_] = 1;
    grid[(kRows - 1) * kColumns + paddle_] = 1;
    bytes->append(reinterpret_cast<const char*>(grid), sizeof grid);
  }

  int steps() const { return steps_; }

 private:
  int ball_row_ = 0, ball_column_ = 0, paddle_ = 0, steps_ = 0;
};

// What all environments show at once: one message. A row that was LAST begins anew with the next one.
class Group {
 public:
  explicit Group(int num_envs) : envs_(num_envs), over_(num_envs, true) {}

  void Restart() { std::fill(over_.begin(), over_.end(), true); }

  // actions: of each row; those of rows that were LAST mean nothing.
  pb::ClientMessage Step(uint64_t seq, const std::vector<int64_t>& actions) {
    pb::ClientMessage message;
    pb::Steps* steps = message.mutable_steps();
    std::string observations, rewards, discounts;
    steps->set_seq(seq);
    for (size_t row = 0; row < envs_.size(); ++row) {
      float reward = 0, discount = 1;
      uint8_t type = kFirst;
      if (over_[row]) {
        envs_[row].Reset();
        over_[row] = false;
      } else {
        over_[row] = envs_[row].Step(actions[row], &reward);
        type = over_[row] ? kLast : kMid;
        discount = over_[row] ? 0 : 1;  // terminated; a time limit would leave it at 1
      }
      if (over_[row]) {
        pb::EpisodeEnd* end = steps->add_episode_ends();
        end->set_row(row);
        end->set_episode_return(reward);
        end->set_steps(envs_[row].steps());
        end->set_frames(envs_[row].steps());
        returns_.push_back(reward);
      }
      steps->mutable_step_type()->push_back(static_cast<char>(type));
      rewards.append(reinterpret_cast<const char*>(&reward), 4);
      discounts.append(reinterpret_cast<const char*>(&discount), 4);
      envs_[row].Show(&observations);
    }
    steps->set_reward(rewards);
    steps->set_discount(discounts);
    steps->add_observations(observations);
    return message;
  }

  const std::vector<float>& returns() const { return returns_; }

 private:
  std::vector<Catch> envs_;
  std::vector<bool> over_;
  std::vector<float> returns_;
};

enum class Outcome { kFinished, kAgain, kRefused };

class Client {
 public:
  Client(const std::string& address, size_t num_episodes, int num_envs, const std::string& name)
      : stub_(pb::Seedbed::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))),
        num_episodes_(num_episodes),
        num_envs_(num_envs),
        name_(name),
        group_(num_envs) {}

  int Run() {
    for (double limit_s = 0.25; !stopping; limit_s = std::min(2 * limit_s, 5.0)) {
      progress_ = false;
      const Outcome outcome = Describe() ? Converse() : Outcome::kAgain;
      if (outcome == Outcome::kFinished) return 0;
      if (outcome == Outcome::kRefused) return 1;
      if (progress_) limit_s = 0.25;  // it was there: the next outage starts from the shortest wait
      Wait(retry_after_s_ + limit_s * std::uniform_real_distribution<>()(random_bits));
      retry_after_s_ = 0;
    }
    return 0;
  }

  void Report() const {
    double sum = 0;
    for (float value : group_.returns()) sum += value;
    const size_t count = group_.returns().size();
    std::cout << "{\"episodes\": " << count << ", \"mean\": " << (count ? sum / count : 0) << "}" << std::endl;
  }

 private:
  // Asks once what the server serves, and makes of it what every stream begins with.
  bool Describe() {
    if (hello_.has_hello()) return true;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    pb::DescribeResponse served;
    const grpc::Status status = stub_->Describe(&context, {}, &served);
    if (!status.ok() || served.specs_size() != 1) return false;
    pb::Hello* hello = hello_.mutable_hello();
    *hello->mutable_protocol() = served.protocol();
    hello->set_client_id(name_);
    hello->set_run_id(random_bits() | 1);  // another one for every start; never 0
    *hello->mutable_spec() = served.specs(0);  // sent back as it came: the contract
    hello->set_assign_indices(true);
    for (int row = 0; row < num_envs_; ++row) {
      pb::Environment* environment = hello->add_environments();
      environment->set_task(served.specs(0).environment());
      environment->set_index(row);
    }
    return true;
  }

  // One stream, to its end.
  Outcome Converse() {
    grpc::ClientContext context;
    auto stream = stub_->Act(&context);
    pb::ServerMessage reply;
    if (stream->Write(hello_) && stream->Read(&reply) && reply.has_welcome()) {
      const pb::Welcome& welcome = reply.welcome();
      for (int row = 0; row < welcome.environment_indices_size(); ++row)  // from now on the wish
        hello_.mutable_hello()->mutable_environments(row)->set_index(welcome.environment_indices(row));
      const bool resumes = welcome.resumed() && (welcome.last_seq() > 0 || seq_ <= 1);
      if (!resumes && seq_ > 1) {  // the server no longer knows the lease: new episodes
        seq_ = 0;
        group_.Restart();
      }
      bool again = seq_ > 0;  // the Steps in flight, under the same seq
      while (stream->Write(again ? in_flight_ : Next()) && stream->Read(&reply) && reply.has_actions()) {
        again = false;
        progress_ = true;
        const std::string& bytes = reply.actions().actions(0);
        std::memcpy(actions_.data(), bytes.data(), std::min(bytes.size(), 8 * actions_.size()));
        if (stopping || (num_episodes_ > 0 && group_.returns().size() >= num_episodes_)) {
          Goodbye(stream.get());
          return Outcome::kFinished;
        }
      }
    }
    return HowItEnded(stream.get(), reply);
  }

  const pb::ClientMessage& Next() {
    in_flight_ = group_.Step(++seq_, actions_);
    return in_flight_;
  }

  template <class Stream>
  void Goodbye(Stream* stream) {
    pb::ClientMessage message;
    message.mutable_goodbye()->set_reason(stopping ? "told to stop" : "finished");
    stream->Write(message);
    stream->WritesDone();
    pb::ServerMessage rest;
    while (stream->Read(&rest)) continue;
    stream->Finish();
  }

  template <class Stream>
  Outcome HowItEnded(Stream* stream, const pb::ServerMessage& last) {
    if (last.has_drain()) {
      retry_after_s_ = last.drain().retry_after_ms() / 1000.0;
      Goodbye(stream);
      return last.drain().reason() == pb::Drain::REASON_FINISHED ? Outcome::kFinished : Outcome::kAgain;
    }
    stream->WritesDone();
    const grpc::Status status = stream->Finish();
    switch (status.error_code()) {
      case grpc::StatusCode::OK:
      case grpc::StatusCode::UNAVAILABLE:
      case grpc::StatusCode::CANCELLED:
      case grpc::StatusCode::DEADLINE_EXCEEDED:
      case grpc::StatusCode::UNKNOWN:
      case grpc::StatusCode::INTERNAL:
      case grpc::StatusCode::RESOURCE_EXHAUSTED:  // no row is free
        return Outcome::kAgain;
      default:
        std::cerr << status.error_message() << std::endl;
        return Outcome::kRefused;
    }
  }

  static void Wait(double seconds) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (!stopping && std::chrono::steady_clock::now() < until)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }

  std::unique_ptr<pb::Seedbed::Stub> stub_;
  const size_t num_episodes_;
  const int num_envs_;
  const std::string name_;
  Group group_;
  std::vector<int64_t> actions_ = std::vector<int64_t>(num_envs_, 0);
  pb::ClientMessage hello_, in_flight_;
  uint64_t seq_ = 0;
  bool progress_ = false;
  double retry_after_s_ = 0;
};

std::string DefaultName() {
  char host[64] = "host";
  gethostname(host, sizeof host - 1);
  return std::string("cpp-") + host + "-" + std::to_string(getpid());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "expected client HOST:PORT [EPISODES [ENVIRONMENTS [NAME]]]" << std::endl;
    return 2;
  }
  for (int number : {SIGINT, SIGTERM}) std::signal(number, [](int) { stopping = true; });
  Client client(argv[1], argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 50, argc > 3 ? std::max(1, std::atoi(argv[3])) : 1,
                argc > 4 ? argv[4] : DefaultName());
  const int code = client.Run();
  client.Report();
  return code;
}
