// Between text and token ids: the sentencepiece library behind a C interface. Nothing thrown leaves this file.
extern "C" {
#include "io/tokenizer/sentencepiece.h"
#include "io/text/text.h"
#include "io/tokenizer/tokenizer.h"
}

#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

struct sentencepiece_model {
    sentencepiece::SentencePieceProcessor processor;
};

namespace
{

using sentencepiece::util::Status;

// "trainer.cc(12) [condition] what is wrong" -> "what is wrong"
int fail(struct error *err, const char *what, const Status &status)
{
    const char *message = status.error_message();
    if (const char *bracket = strstr(message, "] ")) message = bracket + 2;
    return error_set(err, "%s: %s", what, *message ? message : "sentencepiece gives no reason");
}

// Runs `body`; an exception becomes an error.
template <typename Body> int guarded(struct error *err, Body body)
{
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return error_set(err, "tokenizer: out of memory");
    } catch (const std::exception &exception) {
        return error_set(err, "tokenizer: %s", exception.what());
    } catch (...) {
        return error_set(err, "tokenizer: unknown failure inside sentencepiece");
    }
}

void *copy_bytes(const void *bytes, size_t size)
{
    void *copy = malloc(size ? size : 1);
    if (!copy) throw std::bad_alloc();
    if (size) memcpy(copy, bytes, size);
    return copy;
}

// SplitMix64's finaliser: spreads line numbers evenly over 64 bits.
uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// The lines of several files, one after the other, or an even sample of them.
class Lines : public sentencepiece::SentenceIterator
{
  public:
    Lines(const struct tokenizer_texts &texts, double share, struct error *err)
        : texts_(texts), share_(share), err_(err)
    {
        Next();
    }
    ~Lines() override
    {
        text_close(reader_);
    }
    bool done() const override
    {
        return done_;
    }
    const std::string &value() const override
    {
        return line_;
    }
    Status status() const override
    {
        return failed_ ? Status(sentencepiece::util::StatusCode::kInternal, "unreadable text") : Status();
    }
    bool failed() const
    {
        return failed_;
    }
    void Next() override
    {
        while (!done_) {
            const char *line = nullptr;
            size_t size = 0;
            int got = advance(&line, &size);
            if (got < 0) failed_ = true;
            if (got <= 0) done_ = true;
            if (got > 0 && static_cast<double>(mix(number_++) >> 11) * 0x1p-53 < share_) {
                line_.assign(line, size);
                return;
            }
        }
    }

  private:
    int advance(const char **line, size_t *size)
    {
        for (;;) {
            if (!reader_) {
                if (file_ == texts_.count) return 0;
                reader_ = text_open(texts_.paths[file_++], texts_.fields, err_);
                if (!reader_) return -1;
            }
            int got = text_next_sentence(reader_, file_ > texts_.documents, line, size, err_);
            if (got != 0) return got;
            text_close(reader_);
            reader_ = nullptr;
        }
    }

    const struct tokenizer_texts &texts_;
    size_t file_ = 0; /* the next one */
    uint64_t number_ = 0;
    double share_;
    struct error *err_;
    struct text_reader *reader_ = nullptr;
    std::string line_;
    bool done_ = false, failed_ = false;
};

double sampled_share(const char *const *paths, size_t count)
{
    double total = 0;
    for (size_t i = 0; i < count; i++) {
        struct stat status;
        if (stat(paths[i], &status) == 0) total += static_cast<double>(status.st_size);
    }
    double limit = static_cast<double>(TOKENIZER_TRAIN_BYTES);
    return total > limit ? limit / total : 1.0;
}

int check_ids(const sentencepiece::SentencePieceProcessor &processor, struct error *err)
{
    if (processor.GetPieceSize() <= TOKEN_PAD)
        return error_set(err, "tokenizer: %d pieces; allowed: %d or more", processor.GetPieceSize(), TOKEN_PAD + 1);
    if (processor.unk_id() != TOKEN_UNKNOWN || processor.bos_id() != TOKEN_BEGIN || processor.eos_id() != TOKEN_END)
        return error_set(err, "tokenizer: ids of unknown, begin and end are %d, %d and %d; allowed: %d, %d and %d",
                         processor.unk_id(), processor.bos_id(), processor.eos_id(), TOKEN_UNKNOWN, TOKEN_BEGIN,
                         TOKEN_END);
    return 0;
}

const size_t MODES = 3;

// Pieces of objectives, in the order of their ids.
std::string reserved_piece(size_t index)
{
    static const char *const modes[MODES] = {"<R>", "<S>", "<X>"};
    return index < MODES ? modes[index] : "<extra_id_" + std::to_string(index - MODES) + ">";
}

} // namespace

extern "C" int tokenizer_train(const struct tokenizer_texts *texts, size_t vocabulary, size_t sentinels, void **model,
                               size_t *model_size, struct error *err)
{
    return guarded(err, [&] {
        std::string control = TOKENIZER_SEPARATOR;
        for (size_t i = 0; sentinels && i < MODES + sentinels; i++)
            control += "," + reserved_piece(i);
        const std::unordered_map<std::string, std::string> options = {
            {"model_type", "bpe"},
            {"vocab_size", std::to_string(vocabulary)},
            {"byte_fallback", "true"},
            {"character_coverage", "0.9995"},
            {"unk_id", "0"},
            {"bos_id", "1"},
            {"eos_id", "2"},
            {"pad_id", "3"},
            {"control_symbols", control},
            {"num_threads", "1"},
            {"max_sentence_length", std::to_string(TEXT_LINE_LIMIT)},
            {"minloglevel", "3"},
        };
        struct error unread = {};
        Lines lines(*texts, sampled_share(texts->paths, texts->count), &unread);
        std::string bytes;
        Status status = sentencepiece::SentencePieceTrainer::Train(options, &lines, &bytes);
        if (lines.failed()) return error_set(err, "%s", unread.text);
        if (!status.ok()) return fail(err, "cannot train a tokenizer", status);
        *model = copy_bytes(bytes.data(), bytes.size());
        *model_size = bytes.size();
        return 0;
    });
}

extern "C" struct sentencepiece_model *sentencepiece_create(const void *bytes, size_t size, struct error *err)
{
    std::unique_ptr<struct sentencepiece_model> model;
    int result = guarded(err, [&] {
        model = std::make_unique<struct sentencepiece_model>();
        Status status =
            model->processor.LoadFromSerializedProto(absl::string_view(static_cast<const char *>(bytes), size));
        if (!status.ok()) return fail(err, "not a sentencepiece model", status);
        return check_ids(model->processor, err);
    });
    return result == 0 ? model.release() : nullptr;
}

extern "C" void sentencepiece_destroy(struct sentencepiece_model *model)
{
    delete model;
}

extern "C" size_t sentencepiece_vocabulary(const struct sentencepiece_model *model)
{
    return static_cast<size_t>(model->processor.GetPieceSize());
}

extern "C" const char *sentencepiece_piece(const struct sentencepiece_model *model, size_t id)
{
    return model->processor.IdToPiece(static_cast<int>(id)).c_str();
}

extern "C" void sentencepiece_marks(const struct sentencepiece_model *model, int32_t *begin, int32_t *end, int32_t *pad)
{
    *begin = model->processor.bos_id();
    *end = model->processor.eos_id();
    *pad = model->processor.pad_id();
}

extern "C" bool sentencepiece_is_control(const struct sentencepiece_model *model, size_t id)
{
    return model->processor.IsControl(static_cast<int>(id));
}

extern "C" int32_t sentencepiece_id(const struct sentencepiece_model *model, const char *piece)
{
    int id = model->processor.PieceToId(piece);
    return model->processor.IdToPiece(id) == piece ? id : -1;
}

extern "C" size_t sentencepiece_sentinels(const struct sentencepiece_model *model, int32_t *first)
{
    const sentencepiece::SentencePieceProcessor &processor = model->processor;
    *first = processor.PieceToId(reserved_piece(0));
    size_t count = 0;
    for (int id = *first;
         id < processor.GetPieceSize() && processor.IsControl(id) && processor.IdToPiece(id) == reserved_piece(count);
         id++)
        count++;
    if (count > MODES) return count - MODES;
    *first = 0;
    return 0;
}

extern "C" int sentencepiece_encode(const struct sentencepiece_model *model, const char *text, size_t size,
                                    int32_t **ids, size_t *count, struct error *err)
{
    return guarded(err, [&] {
        std::vector<int> encoded;
        Status status = model->processor.Encode(absl::string_view(text, size), &encoded);
        if (!status.ok()) return fail(err, "cannot tokenise", status);
        static_assert(sizeof(int) == sizeof(int32_t), "ids are 32 bits");
        *ids = static_cast<int32_t *>(copy_bytes(encoded.data(), encoded.size() * sizeof(int32_t)));
        *count = encoded.size();
        return 0;
    });
}

extern "C" int sentencepiece_decode(const struct sentencepiece_model *model, const int32_t *ids, size_t count,
                                    char **text, struct error *err)
{
    return guarded(err, [&] {
        std::vector<int> encoded(ids, ids + count);
        for (int id : encoded)
            if (id < 0 || id >= model->processor.GetPieceSize())
                return error_set(err, "token %d is outside the vocabulary of %d", id, model->processor.GetPieceSize());
        std::string decoded;
        Status status = model->processor.Decode(encoded, &decoded);
        if (!status.ok()) return fail(err, "cannot turn tokens into text", status);
        *text = static_cast<char *>(copy_bytes(decoded.c_str(), decoded.size() + 1));
        return 0;
    });
}
