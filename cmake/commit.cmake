# RPO_COMMIT: the commit that is checked out, for the records of runs; "unknown" outside of a git work tree of this project (an
# unpacked archive inside somebody else's tree is none). A new commit makes the next build configure again.
set(RPO_COMMIT unknown)
find_package(Git QUIET)
if(GIT_FOUND)
    execute_process(COMMAND ${GIT_EXECUTABLE} rev-parse --show-toplevel --absolute-git-dir HEAD
                    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE git_answer OUTPUT_STRIP_TRAILING_WHITESPACE
                    ERROR_QUIET RESULT_VARIABLE git_failed)
    string(REPLACE "\n" ";" git_answer "${git_answer}")
    list(LENGTH git_answer git_lines)
    if(NOT git_failed AND git_lines EQUAL 3)
        list(GET git_answer 0 git_top)
        file(REAL_PATH ${PROJECT_SOURCE_DIR} source_folder)
        if(git_top STREQUAL source_folder)
            list(GET git_answer 2 RPO_COMMIT)
            list(GET git_answer 1 git_folder)
            if(EXISTS ${git_folder}/logs/HEAD)
                set_property(DIRECTORY ${PROJECT_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${git_folder}/logs/HEAD)
            endif()
        endif()
    endif()
endif()
