// A client in C#: environments of its own, the wire of proto/seedbed.proto, and nothing else. It does all that the protocol asks:
// it comes back when a connection breaks, when the server restarts and when it is full, and leaves when it is told to.
//
//   seedbed server --env seedbed/Catch-v0 --run-dir runs/csharp --port 7777 --num-envs 4
//   cd examples/csharp_client && dotnet run -- 127.0.0.1:7777 50
//
// Arguments: HOST:PORT, episodes (0: until told to stop), environments, a name that is unique in the fleet.
// It plays Catch: a ball falls through a grid of 10 x 5, and a paddle in the last row is moved left, not at all or right.
//
// Language and library are those of Unity's .NET as well (C# 7), but for signals and for the channel at the end of this file.
//
// Not compiled with .NET by our own tests so far: no SDK was at hand. Mono's compiler took it, with stand-ins for the two libraries that
// it uses, and so it passed all of tests/conformance. tests/examples/test_csharp_client.py does the same with `dotnet` where there is one.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Seedbed.V1;
using Service = Seedbed.V1.Seedbed;
using Stream = Grpc.Core.AsyncDuplexStreamingCall<Seedbed.V1.ClientMessage, Seedbed.V1.ServerMessage>;

class Catch
{
    public const int Rows = 10, Columns = 5;

    readonly Random random;
    int ballRow, ballColumn, paddle;

    public Catch(Random random) { this.random = random; }

    public int Steps { get; private set; }

    public void Reset()
    {
        ballRow = 0;
        ballColumn = random.Next(Columns);
        paddle = Columns / 2;
        Steps = 0;
    }

    // Takes action 0, 1 or 2, as it travels; tells whether the episode is over.
    public bool Step(long action, out float reward)
    {
        paddle = Math.Min(Math.Max(paddle + (int)action - 1, 0), Columns - 1);
        ballRow += 1;
        Steps += 1;
        bool over = ballRow == Rows - 1;
        reward = !over ? 0 : paddle == ballColumn ? 1 : -1;
        return over;
    }

    // Writes the grid, row by row.
    public void Show(BinaryWriter observation)
    {
        var grid = new float[Rows * Columns];
        grid[ballRow * Columns + ballColumn] = 1;
        grid[(Rows - 1) * Columns + paddle] = 1;
        foreach (float cell in grid) observation.Write(cell);
    }
}

// Bytes of an array: BinaryWriter is little-endian everywhere, as the wire is.
class Bytes
{
    readonly MemoryStream stream = new MemoryStream();

    public Bytes() { Writer = new BinaryWriter(stream); }

    public BinaryWriter Writer { get; }

    public ByteString Taken() { return ByteString.CopyFrom(stream.ToArray()); }
}

// What all environments show at once: one message. A row that was LAST begins anew with the next one.
class Group
{
    const byte First = 0, Mid = 1, Last = 2;

    readonly Catch[] environments;
    readonly bool[] over;

    public Group(int count)
    {
        var random = new Random();
        environments = Enumerable.Range(0, count).Select(_ => new Catch(random)).ToArray();
        over = Enumerable.Repeat(true, count).ToArray();
    }

    public List<float> Returns { get; } = new List<float>();

    public void Restart()
    {
        for (int row = 0; row < over.Length; ++row) over[row] = true;
    }

    // actions: of each row; those of rows that were LAST mean nothing.
    public ClientMessage Step(ulong seq, long[] actions)
    {
        var steps = new Steps { Seq = seq };
        Bytes types = new Bytes(), rewards = new Bytes(), discounts = new Bytes(), observations = new Bytes();
        for (int row = 0; row < environments.Length; ++row)
        {
            float reward = 0, discount = 1;
            byte type = First;
            if (over[row])
            {
                environments[row].Reset();
                over[row] = false;
            }
            else
            {
                over[row] = environments[row].Step(actions[row], out reward);
                type = over[row] ? Last : Mid;
                discount = over[row] ? 0 : 1;  // terminated; a time limit would leave it at 1
            }
            if (over[row])
            {
                var length = (ulong)environments[row].Steps;
                steps.EpisodeEnds.Add(new EpisodeEnd { Row = (uint)row, EpisodeReturn = reward, Steps = length, Frames = length });
                Returns.Add(reward);
            }
            types.Writer.Write(type);
            rewards.Writer.Write(reward);
            discounts.Writer.Write(discount);
            environments[row].Show(observations.Writer);
        }
        steps.StepType = types.Taken();
        steps.Reward = rewards.Taken();
        steps.Discount = discounts.Taken();
        steps.Observations.Add(observations.Taken());
        return new ClientMessage { Steps = steps };
    }
}

enum Outcome { Finished, Again, Refused }

class Client
{
    const double ShortestWait = 0.25, LongestWait = 5;

    readonly Service.SeedbedClient service;
    readonly int numEpisodes;
    readonly string name;
    readonly long[] actions;
    readonly Group group;
    readonly Random random = new Random();
    Hello hello;
    ClientMessage inFlight;
    ulong seq;
    bool progress;
    double retryAfter;

    public Client(Service.SeedbedClient service, int numEpisodes, int numEnvs, string name)
    {
        this.service = service;
        this.numEpisodes = numEpisodes;
        this.name = name;
        actions = new long[numEnvs];
        group = new Group(numEnvs);
    }

    public volatile bool Stopping;

    // The exit code.
    public async Task<int> Run()
    {
        for (double limit = ShortestWait; !Stopping; limit = Math.Min(2 * limit, LongestWait))
        {
            progress = false;
            Outcome outcome = await Describe() ? await Converse() : Outcome.Again;
            if (outcome == Outcome.Finished) return 0;
            if (outcome == Outcome.Refused) return 1;
            if (progress) limit = ShortestWait;  // it was there: the next outage starts from the shortest wait
            await Wait(retryAfter + limit * random.NextDouble());
            retryAfter = 0;
        }
        return 0;
    }

    public string Report()
    {
        double mean = group.Returns.DefaultIfEmpty(0).Average(value => (double)value);
        return string.Format(CultureInfo.InvariantCulture, "{{\"episodes\": {0}, \"mean\": {1}}}", group.Returns.Count, mean);
    }

    // Asks once what the server serves, and makes of it what every stream begins with.
    async Task<bool> Describe()
    {
        if (hello != null) return true;
        DescribeResponse served;
        try
        {
            served = await service.DescribeAsync(new DescribeRequest(), deadline: DateTime.UtcNow.AddSeconds(10));
        }
        catch (RpcException)
        {
            return false;
        }
        if (served.Specs.Count != 1) return false;
        hello = new Hello
        {
            Protocol = served.Protocol,
            ClientId = name,
            RunId = BitConverter.ToUInt64(Guid.NewGuid().ToByteArray(), 0) | 1,  // another one for every start; never 0
            Spec = served.Specs[0],  // sent back as it came: the contract
            AssignIndices = true,
        };
        for (int row = 0; row < actions.Length; ++row)
            hello.Environments.Add(new Seedbed.V1.Environment { Task = hello.Spec.Environment, Index = (uint)row });
        return true;
    }

    // One stream, to its end.
    async Task<Outcome> Converse()
    {
        using (Stream stream = service.Act())
        {
            try
            {
                return await Exchange(stream);
            }
            catch (RpcException error)
            {
                return After(error.Status);
            }
        }
    }

    async Task<Outcome> Exchange(Stream stream)
    {
        await Send(stream, new ClientMessage { Hello = hello });
        ServerMessage reply = await Receive(stream);
        if (reply?.Welcome != null)
        {
            bool again = Follow(reply.Welcome);  // the Steps in flight, under the same seq
            while (true)
            {
                if (!again) inFlight = group.Step(++seq, actions);
                again = false;
                await Send(stream, inFlight);
                reply = await Receive(stream);
                if (reply?.Actions == null) break;
                progress = true;
                var bytes = new BinaryReader(new MemoryStream(reply.Actions.Actions_[0].ToByteArray()));
                for (int row = 0; row < actions.Length; ++row) actions[row] = bytes.ReadInt64();
                if (Stopping || (numEpisodes > 0 && group.Returns.Count >= numEpisodes))
                {
                    await Leave(stream);
                    return Outcome.Finished;
                }
            }
        }
        if (reply?.Drain == null) return Outcome.Again;
        retryAfter = reply.Drain.RetryAfterMs / 1000.0;
        await Leave(stream);
        return reply.Drain.Reason == Drain.Types.Reason.Finished ? Outcome.Finished : Outcome.Again;
    }

    // Tells whether the Steps in flight have to be sent again.
    bool Follow(Welcome welcome)
    {
        for (int row = 0; row < welcome.EnvironmentIndices.Count; ++row)  // from now on the wish
            hello.Environments[row].Index = welcome.EnvironmentIndices[row];
        bool resumes = welcome.Resumed && (welcome.LastSeq > 0 || seq <= 1);
        if (!resumes && seq > 1)  // the server no longer knows the lease: new episodes
        {
            seq = 0;
            group.Restart();
        }
        return seq > 0;
    }

    async Task Leave(Stream stream)
    {
        await Send(stream, new ClientMessage { Goodbye = new Goodbye { Reason = Stopping ? "told to stop" : "finished" } });
        try
        {
            await stream.RequestStream.CompleteAsync();
            while (await Receive(stream) != null) { }
        }
        catch (RpcException)
        {
            // The server is gone: nothing is lost by that.
        }
    }

    // What cannot be sent was lost with the stream: reading from it tells how that ended.
    static async Task Send(Stream stream, ClientMessage message)
    {
        try
        {
            await stream.RequestStream.WriteAsync(message);
        }
        catch (RpcException)
        {
        }
        catch (InvalidOperationException)
        {
        }
    }

    // The next message; null where the server has ended the stream in order.
    static async Task<ServerMessage> Receive(Stream stream)
    {
        return await stream.ResponseStream.MoveNext(CancellationToken.None) ? stream.ResponseStream.Current : null;
    }

    static Outcome After(Status status)
    {
        switch (status.StatusCode)
        {
            case StatusCode.OK:
            case StatusCode.Unavailable:
            case StatusCode.Cancelled:
            case StatusCode.DeadlineExceeded:
            case StatusCode.Unknown:
            case StatusCode.Internal:
            case StatusCode.ResourceExhausted:  // no row is free
                return Outcome.Again;
            default:
                Console.Error.WriteLine(status.Detail);
                return Outcome.Refused;
        }
    }

    async Task Wait(double seconds)
    {
        DateTime until = DateTime.UtcNow.AddSeconds(seconds);
        while (!Stopping && DateTime.UtcNow < until) await Task.Delay(10);
    }
}

static class Program
{
    static int Main(string[] given)
    {
        if (given.Length < 1)
        {
            Console.Error.WriteLine("expected client HOST:PORT [EPISODES [ENVIRONMENTS [NAME]]]");
            return 2;
        }
        using (GrpcChannel channel = GrpcChannel.ForAddress("http://" + given[0]))
        {
            int numEpisodes = given.Length > 1 ? int.Parse(given[1]) : 50, numEnvs = given.Length > 2 ? int.Parse(given[2]) : 1;
            string name = given.Length > 3 ? given[3] : $"csharp-{System.Environment.MachineName}-{Guid.NewGuid():N}".Substring(0, 40);
            var client = new Client(new Service.SeedbedClient(channel), numEpisodes, Math.Max(1, numEnvs), name);
            Action<PosixSignalContext> stop = signal =>
            {
                signal.Cancel = true;
                client.Stopping = true;
            };
            using (PosixSignalRegistration.Create(PosixSignal.SIGTERM, stop))
            using (PosixSignalRegistration.Create(PosixSignal.SIGINT, stop))
            {
                int code = client.Run().GetAwaiter().GetResult();
                Console.WriteLine(client.Report());
                return code;
            }
        }
    }
}
