// Makes a sound for a video with `maskvat stdio`. C++17 and POSIX, no library. docs/EMBEDDING.md has the protocol.
//     g++ -std=c++17 -o client client.cpp && ./client VIDEO OUTPUT.wav [STEPS]
// MASKVAT is the program to start, with its arguments; by default "maskvat stdio". On Windows, only `start` differs:
// CreatePipe twice and CreateProcess with STARTF_USESTDHANDLES, then _fdopen(_open_osfhandle(...)) for both ends.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

struct Process { FILE *in, *out; };  // we write requests to `in`, and read events from `out`

Process start(const char *command) {
  int to[2], from[2];
  if (pipe(to) || pipe(from)) throw std::runtime_error("cannot make pipes");
  if (fork() == 0) {
    dup2(to[0], 0), dup2(from[1], 1);
    close(to[1]), close(from[0]);
    execl("/bin/sh", "sh", "-c", command, static_cast<char *>(nullptr));
    _exit(127);
  }
  close(to[0]), close(from[1]);
  return {fdopen(to[1], "w"), fdopen(from[0], "r")};
}

std::string quote(const std::string &text) {  // a JSON text
  std::string out = "\"";
  char code[8];
  for (unsigned char c : text)
    if (c < 32 || c == '"' || c == '\\') std::snprintf(code, sizeof code, "\\u%04x", c), out += code;
    else out += static_cast<char>(c);
  return out + "\"";
}

// The value of the first field of this name; of a list, its first value. Texts are unescaped, "" if there is none.
std::string field(const std::string &line, const std::string &name) {
  size_t at = line.find("\"" + name + "\":");
  if (at == std::string::npos) return "";
  at = line.find_first_not_of(" [", at + name.size() + 3);
  if (line[at] != '"') return line.substr(at, line.find_first_of(",}]", at) - at);
  std::string out;
  for (++at; line[at] != '"'; ++at) {
    if (line[at] != '\\') { out += line[at]; continue; }
    const char c = line[++at];
    if (c == 'u') out += static_cast<char>(std::stoi(line.substr(at + 1, 4), nullptr, 16)), at += 4;  // below 32
    else out += c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == 'b' ? '\b' : c == 'f' ? '\f' : c;
  }
  return out;
}

// Sends a request and reads events until it is answered. Returns the answer's line.
std::string ask(Process &maskvat, const std::string &id, const std::string &rest) {
  std::fputs(("{\"id\": " + id + ", " + rest + "}\n").c_str(), maskvat.in), std::fflush(maskvat.in);
  std::string line;
  for (int c; (c = std::fgetc(maskvat.out)) != EOF;) {
    if (c != '\n') { line += static_cast<char>(c); continue; }
    const std::string event = field(line, "event");
    if (event == "hello" && field(line, "protocol") != "1") throw std::runtime_error("unknown protocol");
    if (event == "progress") std::cerr << field(line, "stage") << ' ' << 100 * std::stod(field(line, "fraction")) << " %\n";
    if (event == "error") throw std::runtime_error(field(line, "message"));
    if (event == "done" && field(line, "id") == id) return line;
    line.clear();
  }
  throw std::runtime_error("the process has ended");
}

int main(int count, char **words) try {
  if (count < 3) return std::cerr << "usage: client VIDEO OUTPUT.wav [STEPS]\n", 2;
  std::signal(SIGPIPE, SIG_IGN);  // if the process is gone, reading says so
  const char *program = std::getenv("MASKVAT"), *steps = count > 3 ? words[3] : "32";
  Process maskvat = start(program ? program : "exec maskvat stdio");
  ask(maskvat, "1", "\"method\": \"load\"");
  const std::string options = "\"options\": {\"overwrite\": true, \"steps\": " + std::string(steps) + "}";
  const std::string files = "\"video\": " + quote(words[1]) + ", \"output\": " + quote(words[2]);
  const std::string answer = ask(maskvat, "2", "\"method\": \"generate\", " + files + ", " + options);
  ask(maskvat, "3", "\"method\": \"close\"");
  std::cout << field(answer, "outputs") << '\n';
} catch (const std::exception &error) { return std::cerr << "error: " << error.what() << '\n', 1; }
