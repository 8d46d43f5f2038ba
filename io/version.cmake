# Runs at every build (cmake -P): writes OUT from version.h.in, and leaves it untouched when nothing has changed, so that
# a new revision recompiles one file and an unchanged one none.
execute_process(COMMAND git -C ${SOURCE} rev-parse --show-toplevel --short=9 HEAD
  OUTPUT_VARIABLE answer ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed)
if(NOT failed)
  string(REPLACE "\n" ";" answer "${answer}")
  list(GET answer 0 top)
  list(GET answer 1 revision)
  get_filename_component(source ${SOURCE} REALPATH)
  if(top STREQUAL source)
    execute_process(COMMAND git -C ${SOURCE} status --porcelain --untracked-files=no
      OUTPUT_VARIABLE changes ERROR_QUIET)
    if(changes)
      string(APPEND revision "+")
    endif()
    string(APPEND VERSION " ${revision}")
  endif()
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/version.h.in ${OUT} @ONLY)
